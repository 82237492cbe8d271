//! What the types of handles promise: that they can be sent to and shared between tasks, and that
//! waiting on them can be, too.

use grinta_proto::{
    ByteStream, Caller, Calls, Credentials, Dial, Driver, Endpoint, Fabric, Flow, Incoming, Io,
    Json, MemberWatch, OpenEndpoint, Raw, Receiver, Responder, SendError, Sender,
};
use grinta_smol::SmolIo;
use grinta_tokio::TokioIo;

#[test]
fn handles_are_sent_and_shared_between_tasks() {
    are_sent_and_shared::<Fabric>();
    are_sent_and_shared::<Credentials>();
    are_sent_and_shared::<Dial>();
    are_sent_and_shared::<OpenEndpoint>();
    are_sent_and_shared::<Endpoint>();
    are_sent_and_shared::<Incoming>();
    are_sent_and_shared::<MemberWatch>();
    are_sent_and_shared::<Sender<Vec<u8>>>();
    are_sent_and_shared::<Receiver<Vec<u8>>>();
    are_sent_and_shared::<Flow<Vec<u8>, String>>();
    are_sent_and_shared::<SendError<Vec<u8>>>();
    are_sent_and_shared::<ByteStream>();
    are_sent_and_shared::<Caller<Vec<u8>, String>>();
    are_sent_and_shared::<Calls<Vec<u8>, String>>();
}

#[test]
fn ends_of_flows_are_sent_and_shared_even_if_their_messages_are_only_sent() {
    are_sent_and_shared::<Sender<std::cell::Cell<u8>>>();
    are_sent_and_shared::<Receiver<std::cell::Cell<u8>>>();
    are_sent_and_shared::<Caller<std::cell::Cell<u8>, std::cell::Cell<u8>>>();
    are_sent_and_shared::<Calls<std::cell::Cell<u8>, std::cell::Cell<u8>>>();
    are_sent_and_shared::<Responder<std::cell::Cell<u8>>>();
}

#[test]
fn drivers_are_sent_to_the_task_that_runs_them() {
    is_sent::<Driver<TokioIo>>();
    is_sent::<Driver<SmolIo>>();
    fn a_driver_is_a_future<I: Io + Unpin>(driver: Driver<I>) -> impl Future<Output = ()> {
        driver
    }
    let _ = a_driver_is_a_future::<TokioIo>;
}

/// Never called: it compiles if every future in it can be sent to another thread.
#[expect(dead_code, reason = "it is its types that matter")]
fn futures_are_sent_between_threads(
    fabric: &Fabric,
    endpoint: &Endpoint,
    incoming: Incoming,
    flow: Flow<String, String>,
    mut watch: MemberWatch,
    caller: Caller<String, String>,
    mut calls: Calls<String, String>,
) {
    sent(fabric.join());
    sent(fabric.sleep(std::time::Duration::ZERO));
    sent(fabric.timeout(std::time::Duration::ZERO, std::future::ready(())));
    sent(fabric.shutdown());
    sent(fabric.closed());
    sent(fabric.endpoint("name").into_future());
    sent(fabric.dial("name").sender::<String, _>(Raw).into_future());
    sent(
        fabric
            .dial("name")
            .receiver::<String, _>(Json)
            .into_future(),
    );
    sent(
        fabric
            .dial("name")
            .bidi::<String, String, _>(Json)
            .into_future(),
    );
    sent(endpoint.accept());
    sent(watch.next());
    sent(async move { incoming.receiver::<String, _>(Raw) });
    let (mut sender, mut receiver) = flow.split();
    sent(sender.send(String::new()));
    sent(receiver.recv());
    sent(receiver.recv_many(&mut Vec::new(), 1));
    sent(sender.send_many(&mut [String::new()].into()));
    sent(async {
        sender
            .reserve()
            .await?
            .send(String::new())
            .map_err(|error| error.cause)
    });
    sent(sender.closed());
    sent(sender.finish());
    sent(
        fabric
            .dial("name")
            .caller::<String, String, _>(Raw)
            .into_future(),
    );
    sent(caller.call(String::new()).into_future());
    sent(calls.next());
    sent(async move {
        let fan_out = fabric.fan_out("name");
        let mut outcomes = fan_out
            .call::<String, String, _>(Json, String::new())
            .ok()?;
        outcomes.next().await
    });
    sent(grinta_tokio::Start::start(Fabric::builder("node")));
    sent(grinta_smol::Start::start(Fabric::builder("node")));
    sent(grinta_tokio::Start::start_with_driver(Fabric::builder(
        "node",
    )));
    sent(grinta_smol::Start::start_with_driver(Fabric::builder(
        "node",
    )));
}

fn are_sent_and_shared<T: Send + Sync + 'static>() {}

fn is_sent<T: Send + 'static>() {}

fn sent<F: Future + Send>(future: F) {
    drop(future);
}
