//! The command `grinta`, run as a person would: several at a time, each a process of its own.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

#[test]
fn two_terminals_and_no_file() {
    let home = Home::new();
    let mut up = home.begin(&["up", "--dev", "--listen", "greetings"]);
    let join = up.join_line();
    // As it was printed.
    let mut dial = home.command("sh");
    let dial = dial.args(["-c", &join]).stdin(Stdio::piped());
    let mut dial = dial.spawn().unwrap();
    dial.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    assert!(dial.wait().unwrap().success());
    assert_eq!(up.stdout.next().unwrap().unwrap(), "hello");
    up.interrupt();
    assert!(up.child.wait().unwrap().success());
}

#[test]
fn members_and_names_are_listed_for_people_and_programs() {
    let home = Home::new();
    let up = [
        "up", "--dev", "--node", "alpha", "--label", "zone=b", "--listen", "svc.one",
    ];
    let mut up = home.begin(&up);
    let address = up.address();
    let run = |arguments: &[&str]| home.joined(arguments, &address);

    let table = text(&run(&["members"]).stdout);
    let row = table.lines().nth(1).unwrap();
    assert!(
        row.starts_with("alpha  alive") && row.ends_with("zone=b"),
        "{table}"
    );
    let members: Value = serde_json::from_slice(&run(&["members", "--json"]).stdout).unwrap();
    assert_eq!(members[0]["name"], "alpha");
    assert_eq!(members[0]["labels"]["zone"], "b");
    assert_eq!(members.as_array().unwrap().len(), 1);

    let table = text(&run(&["names", "svc."]).stdout);
    assert_eq!(table, "NAME     OWNER  STATE\nsvc.one  alpha  alive\n");
    let names: Value = serde_json::from_slice(&run(&["names", "--json"]).stdout).unwrap();
    assert_eq!(names[0]["owner"], "alpha");
    let none: Value = serde_json::from_slice(&run(&["names", "x", "--json"]).stdout).unwrap();
    assert_eq!(none, Value::Array(vec![]));
}

#[test]
fn a_name_is_explained_whoever_holds_it() {
    let home = Home::new();
    let mut first = home.begin(&["up", "--dev", "--fast", "--node", "first"]);
    let address = first.address();
    let second = [
        "up", "--dev", "--fast", "--node", "second", "--listen", "svc", "--join",
    ];
    let mut second = home.begin(&[&second[..], &[&address]].concat());
    second.join_line();
    let explain = |name| home.joined(&["explain", name], &address);

    let mut watch = home.begin(&["names", "--watch", "--json", "--dev", "--join", &address]);
    watch.await_event("appeared");
    let found = explain("svc");
    assert_eq!(found.status.code(), Some(0), "{}", text(&found.stderr));
    let findings = text(&found.stdout);
    assert!(findings.contains("owner          second at"), "{findings}");
    assert!(findings.contains("dial           accepted"), "{findings}");

    let unknown = explain("svd");
    assert_eq!(unknown.status.code(), Some(5));
    assert!(text(&unknown.stderr).contains("did you mean svc?"));

    second.child.kill().unwrap();
    watch.await_event("gone");
    let stale = explain("svc");
    assert_eq!(stale.status.code(), Some(5));
    let findings = text(&stale.stdout);
    assert!(
        findings.contains("owner          second, which is down"),
        "{findings}"
    );
    assert!(
        findings.contains("its holder second has been down"),
        "{findings}"
    );
}

#[test]
fn certificates_are_made_used_and_renewed() {
    let home = Home::new();
    let cert = |arguments: &[&str]| home.run(&[&["cert"], arguments].concat());
    assert!(cert(&["ca", "--out", "ca"]).status.success());
    for node in ["alpha", "beta"] {
        assert!(cert(&["issue", node, "--ca", "ca"]).status.success());
    }
    let again = cert(&["issue", "alpha", "--ca", "ca"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("alpha.key exists"));

    let inspect = |file| -> Value {
        serde_json::from_slice(&cert(&["inspect", file, "--json"]).stdout).unwrap()
    };
    let before = inspect("alpha.pem");
    assert_eq!(before["nodes"], serde_json::json!(["alpha"]));
    assert_eq!(
        (&before["ca"], &before["valid"]),
        (&false.into(), &true.into())
    );
    assert_eq!(inspect("ca/ca.pem")["ca"], true);
    assert!(
        cert(&["renew", "alpha", "--ca", "ca", "--days", "200"])
            .status
            .success()
    );
    let after = inspect("alpha.pem");
    assert_ne!(before["serial"], after["serial"]);
    assert_eq!(after["days_left"], 199);

    let files = |node| {
        let file = |kind| format!("{node}.{kind}");
        [
            "--ca",
            "ca/ca.pem",
            "--certificate",
            &file("pem"),
            "--key",
            &file("key"),
        ]
        .map(str::to_owned)
    };
    let alpha = files("alpha");
    let alpha: Vec<_> = alpha.iter().map(String::as_str).collect();
    let mut up = home.begin(&[&["up"], &alpha[..]].concat());
    let address = up.address();
    let beta = files("beta");
    let beta: Vec<_> = beta.iter().map(String::as_str).collect();
    let members = home.run(&[&["members", "--join", &address], &beta[..]].concat());
    assert!(
        text(&members.stdout).contains("alpha  alive"),
        "{}",
        text(&members.stderr)
    );

    // Of another CA, and nobody's.
    let stranger = home.joined(&["members"], &address);
    assert_eq!(stranger.status.code(), Some(4));
    assert!(text(&stranger.stderr).contains("not signed by a CA that we trust"));
    let nobody = home.run(&["members", "--join", &address]);
    assert_eq!(nobody.status.code(), Some(3));
    assert!(text(&nobody.stderr).contains("no credentials"));
}

#[test]
fn a_command_serves_flows() {
    let home = Home::new();
    let mut up = home.begin(&["up", "--dev"]);
    let address = up.address();
    let listen = [
        "listen",
        "upper",
        "--keep",
        "--exec",
        "tr a-z A-Z",
        "--dev",
        "--join",
    ];
    let mut listen = home.begin(&[&listen[..], &[&address]].concat());
    listen.await_line("is held by");
    for _ in 0..2 {
        let dial = ["dial", "upper", "--wait", "--dev", "--join", &address];
        let dialled = home.run_with(&dial, b"hello");
        assert_eq!(text(&dialled.stdout), "HELLO", "{}", text(&dialled.stderr));
        assert!(dialled.status.success());
    }
}

#[test]
fn messages_of_text_keep_their_bounds() {
    let home = Home::new();
    let mut up = home.begin(&["up", "--dev"]);
    let address = up.address();
    let listen = ["listen", "words", "--json", "--dev", "--join", &address];
    let mut listen = home.begin(&listen);
    listen.await_line("is held by");
    let dial = [
        "dial", "words", "--wait", "--lines", "--dev", "--node", "speaker", "--join",
    ];
    // What the other has to say comes to its end when its input does, which is at once.
    let dialled = home.run_with(&[&dial[..], &[&address]].concat(), b"one\ntwo\n");
    assert!(dialled.status.success(), "{}", text(&dialled.stderr));
    for word in ["one", "two"] {
        let line: Value = serde_json::from_str(&listen.stdout.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["message"], word);
        assert_eq!(line["from"], "speaker");
    }
    assert!(listen.child.wait().unwrap().success());
}

#[test]
fn a_name_that_is_held_is_refused_with_its_owner() {
    let home = Home::new();
    let mut up = home.begin(&["up", "--dev", "--node", "alpha", "--listen", "svc"]);
    let address = up.address();
    let refused = home.joined(&["listen", "svc"], &address);
    assert_eq!(refused.status.code(), Some(6));
    assert!(
        text(&refused.stderr).contains("alpha"),
        "{}",
        text(&refused.stderr)
    );
    let other = home.joined(&["dial", "svc", "--at", "beta"], &address);
    assert_eq!(other.status.code(), Some(5), "{}", text(&other.stderr));
}

#[test]
fn tcp_goes_through_flows() {
    let home = Home::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("tcp:{}", server.local_addr().unwrap().port());
    let echo = thread::spawn(move || {
        let (mut connection, _) = server.accept().unwrap();
        let mut heard = Vec::new();
        connection.read_to_end(&mut heard).unwrap();
        connection.write_all(&heard).unwrap();
    });
    let mut up = home.begin(&["up", "--dev"]);
    let address = up.address();
    let mut expose = home.begin(&["expose", &port, "echo", "--dev", "--join", &address]);
    expose.await_line("leads to");
    let forward = [
        "forward", "echo", "tcp:0", "--wait", "--dev", "--join", &address,
    ];
    let mut forward = home.begin(&forward);
    let line = forward.await_line("leads to");
    let mut connection = TcpStream::connect(line.split(' ').next().unwrap()).unwrap();
    connection.write_all(b"through a flow").unwrap();
    connection.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    connection.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "through a flow");
    echo.join().unwrap();
}

#[test]
fn flows_are_measured() {
    let home = Home::new();
    let mut up = home.begin(&["up", "--dev"]);
    let address = up.address();
    let listen = [
        "listen", "echo", "--keep", "--echo", "--dev", "--join", &address,
    ];
    let mut listen = home.begin(&listen);
    listen.await_line("is held by");
    let bench = |arguments: &[&str]| -> Value {
        let arguments = [&["bench"], arguments, &["--wait", "--json"]].concat();
        let output = home.joined(&arguments, &address);
        let report = serde_json::from_slice(&output.stdout);
        report.unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
    };
    for what in ["rtt", "dial"] {
        let report = bench(&[what, "echo", "--count", "20"]);
        assert_eq!(report["count"], 20);
        let of = |share: &str| report[share].as_f64().unwrap();
        assert!(
            0.0 < of("min_ms") && of("min_ms") <= of("p50_ms"),
            "{report}"
        );
        assert!(
            of("p50_ms") <= of("p99_ms") && of("p99_ms") <= of("max_ms"),
            "{report}"
        );
    }
    let report = bench(&["bulk", "echo", "--duration", "0.2", "--size", "1000"]);
    let sent = |what: &str| report[what].as_u64().unwrap();
    assert!(
        sent("messages") > 0 && sent("bytes") == 1000 * sent("messages"),
        "{report}"
    );
}

#[test]
fn the_doctor_says_what_is_in_the_way() {
    let home = Home::new();
    let mut up = home.begin(&["up", "--dev", "--node", "alpha"]);
    let address = up.address();
    let well = home.joined(&["doctor"], &address);
    let findings = text(&well.stdout);
    assert_eq!(well.status.code(), Some(0), "{findings}");
    for finding in ["is alpha", "round trip", "1 of 1 members answer"] {
        assert!(findings.contains(finding), "{findings}");
    }
    // A port that is somebody else's, who does not answer.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let ill = home.joined(&["doctor", "--join", &silent], &address);
    let findings = text(&ill.stdout);
    assert_eq!(ill.status.code(), Some(1), "{findings}");
    let failed: Vec<_> = findings
        .lines()
        .filter(|it| it.starts_with("FAIL"))
        .collect();
    assert!(
        failed.len() == 1 && failed[0].contains(&silent),
        "{findings}"
    );
}

#[test]
fn top_shows_nodes_and_what_goes_on() {
    let home = Home::new();
    let mut up = home.begin(&["up", "--dev", "--node", "alpha"]);
    let address = up.address();
    let listen = [
        "listen", "echo", "--keep", "--echo", "--dev", "--node", "beta", "--join", &address,
    ];
    let mut listen = home.begin(&listen);
    listen.await_line("is held by");
    let bench = ["bench", "bulk", "echo", "--wait", "--duration", "600"];
    let bench = [&bench[..], &["--size", "100", "--dev", "--join", &address]].concat();
    let bench = home.begin(&bench);

    // More than the questions of top itself, of which there are five a second.
    let is_busy = |node: &Value| node["messages_received_per_second"].as_f64() > Some(100.0);
    let top = [
        "top",
        "--json",
        "--interval",
        "0.2",
        "--dev",
        "--join",
        &address,
    ];
    let mut top = home.begin(&top);
    let seen = top.stdout.find_map(|line| {
        let seen: Value = serde_json::from_str(&line.unwrap()).unwrap();
        is_busy(&seen["nodes"][1]).then_some(seen)
    });
    let seen = seen.unwrap();
    assert_eq!(seen["fabric"], "default");
    assert!(seen["alive"].is_u64() && seen["suspect"].is_u64(), "{seen}");
    let (alpha, beta) = (&seen["nodes"][0], &seen["nodes"][1]);
    assert_eq!(
        (&alpha["name"], &beta["name"]),
        (&"alpha".into(), &"beta".into())
    );
    assert!(!is_busy(alpha), "{seen}");
    // Its own, and the one under which it tells how it is.
    assert_eq!(beta["status"]["names"]["own"], 2);
    assert!(beta["status"]["flows"].as_u64() >= Some(1), "{seen}");
    assert!(
        beta["bytes_received_per_second"].as_f64() > Some(0.0),
        "{seen}"
    );

    top.interrupt();
    // What it had on its way is read to the end, so that it can write it.
    top.stdout.by_ref().for_each(drop);
    assert!(top.child.wait().unwrap().success());

    drop(bench);
    let once = home.joined(&["top", "--once", "--interval", "0.5"], &address);
    let screen = text(&once.stdout);
    assert!(once.status.success(), "{}", text(&once.stderr));
    assert!(!screen.contains('\x1b'), "{screen:?}");
    let lines: Vec<_> = screen.lines().collect();
    assert!(
        lines[0].starts_with("fabric default, seen by dev-"),
        "{screen}"
    );
    let cells = |line: &str| -> Vec<String> {
        let cells = line.split("  ").map(|cell| cell.trim().to_owned());
        cells.filter(|cell| !cell.is_empty()).collect()
    };
    let heading = cells(lines[1]);
    assert_eq!(heading[..5], ["NODE", "STATE", "RTT", "NAMES", "FLOWS"]);
    let beta = lines.iter().find(|line| line.starts_with("beta")).unwrap();
    let cells = cells(beta);
    assert_eq!(cells.len(), heading.len(), "{beta}");
    assert_eq!(cells[3], "2", "{beta}");
}

#[test]
fn a_node_leaves_when_its_operator_says_so() {
    let home = Home::new();
    let mut first = home.begin(&["up", "--dev", "--node", "first"]);
    let address = first.address();
    let second = ["up", "--dev", "--node", "second", "--join", &address];
    let mut second = home.begin(&second);
    second.join_line();

    let left = home.joined(&["leave", "second"], &address);
    assert_eq!(
        text(&left.stdout),
        "second left\n",
        "{}",
        text(&left.stderr)
    );
    assert!(second.child.wait().unwrap().success());
    first.await_line("second at");
    first.await_line("left");

    // Who is not there takes no orders, nor does one that is no node of `up`.
    let nobody = home.joined(&["leave", "second"], &address);
    assert_eq!(nobody.status.code(), Some(5));
    let listen = [
        "listen", "svc", "--dev", "--node", "third", "--join", &address,
    ];
    let mut listen = home.begin(&listen);
    listen.await_line("is held by");
    let other = home.joined(&["leave", "third"], &address);
    assert_eq!(other.status.code(), Some(5));
    let said = text(&other.stderr);
    assert!(said.contains("third takes no orders"), "{said}");
}

#[test]
fn only_operators_give_orders() {
    let home = Home::new();
    let cert = |arguments: &[&str]| home.run(&[&["cert"], arguments].concat());
    assert!(cert(&["ca"]).status.success());
    for node in ["alpha", "boss", "other"] {
        assert!(cert(&["issue", node]).status.success());
    }
    let files = |node: &str| {
        [
            "--ca",
            "ca.pem",
            "--certificate",
            &format!("{node}.pem"),
            "--key",
            &format!("{node}.key"),
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let call = |command: &[&str], node: &str| -> Vec<String> {
        let command = command.iter().map(|&word| word.to_owned());
        command.chain(files(node)).collect()
    };
    let up = call(&["up", "--operator", "boss"], "alpha");
    let mut up = home.begin(&up.iter().map(String::as_str).collect::<Vec<_>>());
    let address = up.address();
    let leave = |node: &str| {
        let call = call(&["leave", "alpha", "--join", &address], node);
        home.run(&call.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let other = leave("other");
    assert_eq!(other.status.code(), Some(6), "{}", text(&other.stderr));
    let boss = leave("boss");
    assert_eq!(text(&boss.stdout), "alpha left\n", "{}", text(&boss.stderr));
    assert!(up.child.wait().unwrap().success());
}

#[test]
fn what_is_wrong_is_said_with_a_code() {
    let home = Home::new();
    let code = |arguments: &[&str]| {
        let output = home.run(arguments);
        (output.status.code().unwrap(), text(&output.stderr))
    };
    assert_eq!(code(&["dial"]).0, 2);
    assert_eq!(code(&["dial", "not a name", "--dev"]).0, 2);
    let (status, said) = code(&["members", "--dev"]);
    assert!(status == 4 && said.contains("--join"), "{said}");
    let missing = [
        "--ca",
        "none.pem",
        "--certificate",
        "none.pem",
        "--key",
        "none.key",
    ];
    let (status, said) = code(&[&["up"], &missing[..]].concat());
    assert!(status == 3 && said.contains("none.pem"), "{said}");
    let (status, said) = code(&["cert", "inspect", "none.pem"]);
    assert!(status == 1 && said.contains("none.pem"), "{said}");
    let completions = home.run(&["completions", "bash"]);
    assert!(text(&completions.stdout).contains("_grinta"));
}

/// A user, with a directory of their own.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let directory: &Path = self.0.path();
        command
            .current_dir(directory)
            .env("XDG_RUNTIME_DIR", directory)
            .env_remove("GRINTA_JOIN")
            .env_remove("GRINTA_LOG");
        command
    }

    /// Runs a call to its end.
    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, b"")
    }

    /// Runs a call to its end, with something to read.
    fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(env!("CARGO_BIN_EXE_grinta"));
        let command = command.args(arguments).stdin(Stdio::piped());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who does not read it does not mind.
        child.stdin.take().unwrap().write_all(input).ok();
        child.wait_with_output().unwrap()
    }

    /// Runs a call to its end, as a development node of the fabric.
    fn joined(&self, arguments: &[&str], address: &str) -> Output {
        self.run(&[arguments, &["--dev", "--join", address]].concat())
    }

    /// Begins a call that goes on.
    fn begin(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(env!("CARGO_BIN_EXE_grinta"));
        let command = command.args(arguments).stdin(Stdio::null());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Running {
            child,
            stdout,
            stderr,
        }
    }
}

/// A call that goes on until it is ended.
struct Running {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Running {
    /// The line of standard error in which something is said.
    fn await_line(&mut self, what: &str) -> String {
        let mut said = Vec::new();
        for line in &mut self.stderr {
            let line = line.unwrap();
            if line.contains(what) {
                return line;
            }
            said.push(line);
        }
        panic!("it ended without saying {what:?}: {said:?}");
    }

    /// Where a node is.
    fn address(&mut self) -> String {
        let join = self.join_line();
        join.rsplit(' ').next().unwrap().to_owned()
    }

    /// How others join a node.
    fn join_line(&mut self) -> String {
        self.await_line("--join").trim().to_owned()
    }

    /// Waits for an event among lines of JSON.
    fn await_event(&mut self, event: &str) {
        let is_it = |line: String| serde_json::from_str::<Value>(&line).unwrap()["event"] == event;
        assert!(self.stdout.any(|line| is_it(line.unwrap())), "no {event}");
    }

    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-INT", &pid]).status();
        assert!(killed.unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
