//! Stories of cluster queries and of claims with confirmation.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for what it is about"
)]

use super::harness::{World, name};
use super::*;
use crate::config::Limits;
use crate::share::Share;
use crate::wire::control::{NameQuery, NameView};

#[test]
fn a_query_asks_the_others_and_the_first_who_knows_answers() {
    let mut world = whole(40, 5);
    claim(&mut world, 1, "svc");
    world.run(seconds(2));
    let report = ask(&mut world, 0, 1, request("svc", QueryMode::First)).unwrap();
    assert_eq!(report.owner, Some(name(1)));
    let report = ask(&mut world, 0, 2, request("none", QueryMode::First)).unwrap();
    assert_eq!(report.owner, None, "all were asked");
    assert_eq!((report.answers.len(), report.silent.len()), (4, 0));
}

#[test]
fn a_vote_is_decided_without_the_silent() {
    let mut world = whole(41, 8);
    claim(&mut world, 1, "svc");
    world.run(seconds(2));
    world.freeze(7);
    let begun = world.now;
    let report = ask(&mut world, 0, 1, request("svc", vote(0.67))).unwrap();
    assert_eq!(report.owner, Some(name(1)));
    assert!(world.now - begun < Duration::from_millis(50), "it waited");
    let votes = report.votes()[&name(1)];
    assert!(votes >= 5, "{report:?}");
    assert_eq!(votes + report.silent.len(), 7);
    assert!(report.silent.contains(&name(7)));
    // Nobody else is left to wait for once it is down.
    let whole = request("svc", vote(1.0));
    let error = ask(
        &mut world,
        0,
        2,
        QueryRequest {
            timeout: seconds(600),
            ..whole
        },
    );
    let too_few = QueryError::TooFew {
        asked: 7,
        answered: 6,
        needed: 7,
    };
    assert_eq!(error, Err(too_few));
    assert_eq!(world.story(0, 7), ["up", "suspected", "down"]);
}

#[test]
fn a_question_on_a_connection_that_gives_way_to_another_is_asked_again() {
    let mut world = whole(46, 2);
    claim(&mut world, 1, "svc");
    world.run(seconds(2));
    begin(&mut world, 0, 1, request("svc", vote(1.0)));
    // What is under way is lost, and the connection is there as before.
    world.cut(|index| u8::from(index == 1), 2);
    world.run(Duration::from_millis(10));
    world.heal();
    world.run(Duration::from_millis(100));
    assert_eq!(ended(&world, 0, 1), None);
    world.act(0, |control, now, _| control.handle_rerouted(now, &name(1)));
    world.run(Duration::from_millis(100));
    let report = ended(&world, 0, 1).expect("it is asked again").unwrap();
    assert_eq!(report.owner, Some(name(1)));
}

#[test]
fn too_few_answers_by_the_deadline_are_an_error_with_counts() {
    let mut world = whole(42, 5);
    world.cut(|index| u8::from(index > 1), 5);
    let begun = world.now;
    let error = ask(&mut world, 0, 1, request("svc", vote(0.67)));
    let too_few = QueryError::TooFew {
        asked: 4,
        answered: 1,
        needed: 3,
    };
    assert_eq!(error, Err(too_few));
    assert!(world.now - begun >= seconds(1), "the time was not used");
}

#[test]
fn a_query_asks_whom_it_is_told_to() {
    let mut world = whole(43, 4);
    claim(&mut world, 1, "svc");
    world.run(seconds(2));
    let nodes = |indices: &[usize]| Some(indices.iter().map(|&index| name(index)).collect());
    let chosen = |indices| QueryRequest {
        nodes: nodes(indices),
        ..request("svc", vote(0.5))
    };
    let report = ask(&mut world, 0, 1, chosen(&[0, 2, 9])).unwrap();
    let asked: Vec<_> = report.answers.keys().cloned().collect();
    assert_eq!(asked, [name(0), name(2)]);
    assert_eq!(report.silent, [name(9)].into());
    let nobody = ask(&mut world, 0, 2, chosen(&[8, 9]));
    assert_eq!(nobody, Err(QueryError::NobodyAsked));
    let mut alone = World::of(44, 1);
    let nobody = ask(&mut alone, 0, 1, request("svc", QueryMode::First));
    assert_eq!(nobody, Err(QueryError::NobodyAsked));
}

#[test]
fn who_has_not_heard_all_names_has_no_view() {
    let mut world = whole(45, 3);
    // A newcomer that is a member before it is synced.
    world.boot(3, Session(1), &[0]);
    let known = |world: &World| world.node(1).control.member(&name(3)).is_some();
    world.run_until(seconds(5), "a newcomer", known);
    world.act(3, |control, _, _| control.is_synced = false);
    let only = QueryRequest {
        nodes: Some([name(3)].into()),
        ..request("svc", QueryMode::First)
    };
    let error = ask(&mut world, 1, 1, only).unwrap_err();
    let none = QueryError::TooFew {
        asked: 1,
        answered: 0,
        needed: 1,
    };
    assert_eq!(error, none);
}

#[test]
fn queries_under_way_are_limited_and_can_be_given_up() {
    let mut world = whole(46, 2);
    world.freeze(1);
    let limit = Limits::default().queries_max;
    for id in 0..limit as u64 {
        begin(&mut world, 0, id, request("svc", QueryMode::First));
    }
    let refused = ask(&mut world, 0, 1000, request("svc", QueryMode::First));
    assert_eq!(refused, Err(QueryError::TooMany { limit }));
    world.act(0, |control, _, _| control.cancel_query(QueryId(0)));
    world.thaw(1);
    let report = ask(&mut world, 0, 1001, request("svc", QueryMode::First)).unwrap();
    assert_eq!(report.owner, None);
    assert!(ended(&world, 0, 0).is_none(), "it was given up");
}

#[test]
fn a_peer_that_asks_too_much_is_told_so_and_nothing_is_looked_up() {
    let mut world = whole(47, 3);
    world.run(seconds(1));
    world.is_traced = true;
    let budget = Limits::default().answers_per_peer_max;
    let question = |query| {
        let name = endpoint("svc");
        ControlMessage::NameQuery(NameQuery { query, name })
    };
    for query in 0..u64::from(budget) + 10 {
        world
            .act(0, |control, now, _| {
                control.handle_message(now, &name(1), question(query))
            })
            .unwrap();
    }
    world.run(Duration::from_millis(10));
    let busy = |world: &World| {
        let answers = world.trace.iter();
        answers.filter(|line| line.contains("view: Busy")).count()
    };
    assert_eq!(busy(&world), 10);
    // Others are not affected, and a second later it may ask again.
    let report = ask(&mut world, 2, 1, request("svc", vote(1.0))).unwrap();
    assert_eq!(report.answers[&name(0)], NameView::Nobody);
    world.run(seconds(1));
    let report = ask(&mut world, 1, 1, request("svc", vote(1.0))).unwrap();
    assert_eq!(report.answers[&name(0)], NameView::Nobody);
    assert_eq!(busy(&world), 10);
}

#[test]
fn a_node_that_leaves_ends_its_questions() {
    let mut world = whole(48, 3);
    world.freeze(1);
    world.freeze(2);
    begin(&mut world, 0, 1, request("svc", QueryMode::First));
    confirm(&mut world, 0, "svc", 1.0, seconds(9)).unwrap();
    world.act(0, |control, now, _| control.leave(now));
    assert_eq!(ended(&world, 0, 1), Some(Err(QueryError::ShuttingDown)));
    assert_eq!(confirmed(&world, 0), [Err(ConfirmError::ShuttingDown)]);
}

#[test]
fn a_claim_is_confirmed_within_a_round_trip() {
    let mut world = whole(50, 12);
    for share in [0.5, 1.0] {
        let service = format!("svc-{share}");
        let begun = world.now;
        confirm(&mut world, 3, &service, share, seconds(5)).unwrap();
        until_confirmed(&mut world, 3);
        assert_eq!(confirmed(&world, 3).last(), Some(&Ok(())));
        assert!(world.now - begun < Duration::from_millis(50), "{share}");
        let sees = |index: &usize| {
            let directory = world.node(*index).control.directory();
            directory.owner_of(&endpoint(&service)) == Some(&name(3))
        };
        let seen = (0..12).filter(|&index| index != 3).filter(sees).count();
        assert!(seen >= Share::new(share).unwrap().of(11), "{seen} see it");
    }
    world.check();
}

#[test]
fn a_claim_that_too_few_confirm_is_withdrawn() {
    let mut world = whole(51, 5);
    world.cut(|index| u8::from(index > 1), 5);
    confirm(&mut world, 0, "svc", 0.5, seconds(2)).unwrap();
    until_confirmed(&mut world, 0);
    let error = ConfirmError::TimedOut {
        name: endpoint("svc"),
        agreed: 1,
        members: 4,
        needed: 2,
    };
    assert_eq!(confirmed(&world, 0), [Err(error)]);
    world.heal();
    world.run(seconds(20));
    for index in 0..5 {
        let resolution = world.node(index).control.resolve(&endpoint("svc"));
        assert_eq!(resolution, Resolution::NotFound, "at {index}");
    }
    world.check();
}

#[test]
fn a_claim_is_refused_by_a_member_that_knows_an_older_one() {
    let mut world = whole(52, 5);
    world.cut(|index| u8::from(index == 3), 5);
    claim(&mut world, 2, "svc");
    world.run(Duration::from_millis(700));
    world.heal();
    let resolution = world.node(3).control.resolve(&endpoint("svc"));
    assert_eq!(resolution, Resolution::NotFound, "the story needs it");
    confirm(&mut world, 3, "svc", 1.0, seconds(5)).unwrap();
    until_confirmed(&mut world, 3);
    let taken = ClaimError::Taken {
        name: endpoint("svc"),
        owner: name(2),
    };
    assert_eq!(confirmed(&world, 3), [Err(taken.into())]);
    world.run(seconds(10));
    assert!(world.node(3).lost().is_empty(), "it was never held");
    let held = world.node(3).control.directory().held().count();
    assert_eq!(held, 0, "it was withdrawn");
    assert!(world.node(2).lost().is_empty());
    world.check();
}

#[test]
fn a_release_that_a_member_has_not_heard_of_refuses_nobody() {
    let mut world = whole(53, 2);
    claim(&mut world, 0, "svc");
    world.run(seconds(2));
    world.freeze(1);
    world.act(0, |control, now, _| control.release(now, &endpoint("svc")));
    // The third knows of the release, the second has yet to read of it.
    world.boot(2, Session(1), &[0]);
    let knows_all = |world: &World| {
        let control = &world.node(2).control;
        control.is_synced() && control.members.active_count() == 2
    };
    world.run_until(seconds(3), "a newcomer", knows_all);
    confirm(&mut world, 2, "svc", 1.0, seconds(30)).unwrap();
    let view = NameView::Owned {
        owner: name(0),
        stamp: world
            .node(1)
            .control
            .directory()
            .owning_claim(&endpoint("svc"))
            .unwrap()
            .1,
    };
    world
        .act(2, |control, now, _| {
            let number = *control.questions.confirming.keys().next().unwrap();
            let answer = crate::wire::control::NameAnswer {
                query: number,
                view,
            };
            control.handle_message(now, &name(1), ControlMessage::NameAnswer(answer))
        })
        .unwrap();
    world.thaw(1);
    until_confirmed(&mut world, 2);
    assert_eq!(confirmed(&world, 2), [Ok(())]);
}

#[test]
fn a_member_that_lags_behind_catches_up_within_the_question() {
    let mut world = whole(54, 3);
    world.cut(|index| u8::from(index == 2), 3);
    for number in 0..1000 {
        claim(&mut world, 0, &format!("name-{number}"));
    }
    world.run(Duration::from_millis(1500));
    world.heal();
    let begun = world.now;
    confirm(&mut world, 0, "svc", 1.0, seconds(9)).unwrap();
    until_confirmed(&mut world, 0);
    assert_eq!(confirmed(&world, 0), [Ok(())]);
    let took = world.now - begun;
    assert!(took < Duration::from_millis(1500), "{took:?}");
    world.check();
}

#[test]
fn members_that_come_are_asked_and_those_that_go_do_not_count() {
    let mut world = whole(55, 4);
    world.crash(3);
    confirm(&mut world, 0, "svc", 1.0, seconds(60)).unwrap();
    world.run(seconds(1));
    assert_eq!(confirmed(&world, 0), [], "one has not answered");
    world.boot(4, Session(1), &[0]);
    let grown = |world: &World| world.node(0).control.members.active_count() == 4;
    world.run_until(seconds(3), "a newcomer", grown);
    until_confirmed(&mut world, 0);
    assert_eq!(confirmed(&world, 0), [Ok(())]);
    assert!(world.story(0, 3).contains(&"down"));
    let directory = world.node(4).control.directory();
    assert_eq!(directory.owner_of(&endpoint("svc")), Some(&name(0)));
}

#[test]
fn a_claim_that_is_given_up_is_not_confirmed() {
    let mut world = whole(56, 3);
    confirm(&mut world, 0, "svc", 1.0, seconds(5)).unwrap();
    world.act(0, |control, now, _| control.release(now, &endpoint("svc")));
    world.run(seconds(10));
    assert_eq!(confirmed(&world, 0), []);
    confirm(&mut world, 0, "svc", 1.0, seconds(5)).unwrap();
    until_confirmed(&mut world, 0);
    assert_eq!(confirmed(&world, 0), [Ok(())]);
}

#[test]
fn one_that_is_alone_confirms_itself_once_it_is_synced() {
    let mut world = World::of(57, 1);
    confirm(&mut world, 0, "svc", 1.0, seconds(5)).unwrap();
    assert_eq!(confirmed(&world, 0), [Ok(())]);
    let mut world = World::new(58);
    world.boot(1, Session(1), &[0]);
    confirm(&mut world, 1, "svc", 1.0, seconds(5)).unwrap();
    world.run(seconds(1));
    assert_eq!(confirmed(&world, 1), [], "it knows of nobody yet");
    world.boot(0, Session(1), &[]);
    until_confirmed(&mut world, 1);
    assert_eq!(confirmed(&world, 1), [Ok(())]);
}

fn whole(seed: u64, count: usize) -> World {
    let mut world = World::of(seed, count);
    world.run_until(seconds(20), "a whole fabric", World::is_whole);
    world.run(seconds(3));
    world
}

fn claim(world: &mut World, index: usize, service: &str) {
    let claimed = world.act(index, |control, now, unix| {
        control.claim(now, unix, endpoint(service), ClaimMode::Exclusive)
    });
    claimed.unwrap();
}

fn request(service: &str, mode: QueryMode) -> QueryRequest {
    QueryRequest {
        name: endpoint(service),
        mode,
        nodes: None,
        timeout: seconds(1),
    }
}

fn vote(participation: f64) -> QueryMode {
    QueryMode::Vote {
        participation: Share::new(participation).unwrap(),
    }
}

fn begin(world: &mut World, index: usize, id: u64, request: QueryRequest) {
    world.act(index, |control, now, _| {
        control.query(now, QueryId(id), request);
    });
}

fn ask(
    world: &mut World,
    index: usize,
    id: u64,
    request: QueryRequest,
) -> Result<QueryReport, QueryError> {
    begin(world, index, id, request);
    let answered = |world: &World| ended(world, index, id).is_some();
    world.run_until(seconds(60), "an answer", answered);
    ended(world, index, id).unwrap()
}

fn ended(world: &World, index: usize, id: u64) -> Option<Result<QueryReport, QueryError>> {
    let mut events = world.node(index).events.iter();
    events.find_map(|(_, event)| match event {
        ControlEvent::Queried { query, result } if *query == QueryId(id) => Some(result.clone()),
        _ => None,
    })
}

fn confirm(
    world: &mut World,
    index: usize,
    service: &str,
    share: f64,
    timeout: Duration,
) -> Result<(), ConfirmError> {
    let confirmation = Confirmation {
        share: Share::new(share).unwrap(),
        timeout,
    };
    world.act(index, |control, now, unix| {
        control.claim_confirmed(now, unix, endpoint(service), confirmation)
    })
}

fn confirmed(world: &World, index: usize) -> Vec<Result<(), ConfirmError>> {
    let events = world.node(index).events.iter();
    let ends = events.filter_map(|(_, event)| match event {
        ControlEvent::Confirmed { result, .. } => Some(result.clone()),
        _ => None,
    });
    ends.collect()
}

fn until_confirmed(world: &mut World, index: usize) {
    let before = confirmed(world, index).len();
    let ended = |world: &World| confirmed(world, index).len() > before;
    world.run_until(seconds(60), "an end", ended);
}

fn endpoint(name: &str) -> EndpointName {
    EndpointName::new(name).unwrap()
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
