//! What the command's own nodes do for each other: they tell their status, and those of `grinta up`
//! leave when an operator says so.

use std::future::pending;
use std::time::Duration;

use grinta_tokio::{
    Caller, DialCause, DialError, Endpoint, Fabric, Holder, Json, MemberState, NodeName, Request,
    STATUS_ENDPOINT, WatchError, rules,
};
use serde::{Deserialize, Serialize};

use crate::arguments::{Leave, Up};
use crate::failure::{Failure, Kind};
use crate::output::{print, say};
use crate::pipe::accept;

/// What an operator may ask.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Leave,
}

/// Tells whoever looks how this node is, for as long as it runs.
pub(crate) async fn tell_status(fabric: &Fabric) {
    match fabric.endpoint(STATUS_ENDPOINT).shared().await {
        Ok(endpoint) => drop(tokio::spawn(endpoint.serve_status())),
        Err(error) => say(format_args!(
            "`grinta top` will not show this node: {error}"
        )),
    }
}

/// Where orders to a node that stays come in; `None` if nobody may give any.
pub(crate) async fn orders(up: &Up, fabric: &Fabric) -> Result<Option<Endpoint>, Failure> {
    let open = fabric.endpoint(ORDERS_ENDPOINT).shared();
    let operators = up.operator.iter().map(NodeName::as_str);
    Ok(match (up.attachment.dev, up.operator.is_empty()) {
        // All that have development credentials are of this user.
        (true, _) => Some(open.await?),
        (false, false) => Some(open.admit(rules::only_from(operators)).await?),
        (false, true) => None,
    })
}

/// Waits for the order to leave, and returns who gave it; without end if nobody may.
pub(crate) async fn await_order(fabric: &Fabric, orders: Option<&Endpoint>) -> NodeName {
    let Some(orders) = orders else {
        return pending().await;
    };
    while let Some(incoming) = accept(orders).await {
        let operator = incoming.node();
        // Who asks for something else was told so.
        let Ok(mut calls) = incoming.calls::<Order, (), _>(Json) else {
            continue;
        };
        let order = fabric.timeout(ORDER_TIMEOUT, calls.next()).await;
        if let Ok(Ok(Some(request))) = order {
            let Request { message, responder } = request;
            let Order::Leave = message;
            // It leaves all the same if the operator does not wait for the answer.
            responder.respond(()).await.ok();
            return operator;
        }
    }
    pending().await
}

pub(crate) async fn leave(leave: &Leave) -> Result<(), Failure> {
    let node = &leave.whom;
    leave
        .attachment
        .run(async |fabric| {
            // That it takes orders may be news that is still on its way.
            let known = until_known(fabric, node);
            fabric.timeout(SPREADING, known).await.ok();
            let dial = fabric.dial(ORDERS_ENDPOINT).at(node.clone());
            let caller: Caller<Order, ()> = match dial.caller(Json).await {
                Ok(caller) => caller,
                Err(error) => return Err(explain(node, error)),
            };
            caller.call(Order::Leave).await?;
            drop(caller);
            match fabric.timeout(LEAVE_TIMEOUT, gone(fabric, node)).await {
                Ok(MemberState::Left { .. }) => print(format_args!("{node} left")),
                Ok(_) => Err(Failure::new(
                    Kind::Broken,
                    format!("{node} failed before it had left"),
                )),
                Err(elapsed) => Err(Failure::new(
                    Kind::Broken,
                    format!("{node} agreed, and has not left: {elapsed}"),
                )),
            }
        })
        .await
}

/// Waits until a node is known to take orders.
async fn until_known(fabric: &Fabric, node: &NodeName) {
    let mut watch = fabric.watch_names(ORDERS_ENDPOINT);
    loop {
        let holders = fabric.resolve_all(ORDERS_ENDPOINT).unwrap_or_default();
        let is_it = |holder: &Holder| match holder {
            Holder::Local => false,
            Holder::Remote { node: holder, .. } => holder == node,
        };
        if holders.iter().any(is_it) {
            return;
        }
        match watch.next().await {
            Ok(_) | Err(WatchError::Lagged) => {}
            Err(_) => return pending().await,
        }
    }
}

/// What becomes of a member that is about to leave.
async fn gone(fabric: &Fabric, node: &NodeName) -> MemberState {
    let mut watch = fabric.watch_members();
    loop {
        match watch.next().await {
            Ok(event) => {
                let member = event.member();
                if member.name == *node && !member.state.is_active() {
                    return member.state;
                }
            }
            Err(WatchError::Lagged) => {}
            Err(_) => return pending().await,
        }
    }
}

fn explain(node: &NodeName, error: DialError) -> Failure {
    match error.cause {
        DialCause::NotFound { .. } | DialCause::NotAt { .. } => Failure::new(
            Kind::NotFound,
            format!(
                "{node} takes no orders: those do that run under `grinta up --dev`, or `grinta up \
                 --operator` with the name of who gives them"
            ),
        ),
        _ => error.into(),
    }
}

/// The name under which all nodes that take orders do so.
const ORDERS_ENDPOINT: &str = "grinta.up";

/// Longer than a name takes to be known everywhere.
const SPREADING: Duration = Duration::from_secs(5);

/// How long one may take to say what is wanted.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than a node takes to let its flows drain and to tell the others.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(30);
