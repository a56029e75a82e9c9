//! What people see, and who is asked next or again.

mod silent;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use clap::Parser as _;
use serde_json::json;
use types::{Reason, region::NodeStatus};

use super::{places::Place, rounds::life_limit, *};
use crate::{
    args::{Cli, Command},
    exit::Exit,
};

/// Marks a refusal that will last for an hour.
const LATER_MARK: &str = " for an hour";
const LATER: &str = "NOT_SERVING for an hour";

/// `infer fraud.scorer` with these flags.
fn args(flags: &[&str]) -> InferArgs {
    let line = [&["regent", "infer", "fraud.scorer"], flags].concat();
    let Command::Infer(args) = Cli::try_parse_from(line).unwrap().command else {
        panic!("another command");
    };
    args
}

/// What people see of this answer to a question with these flags.
fn seen(flags: &[&str], document: &Value) -> String {
    human(&args(flags), document)
}

#[test]
fn an_answer_says_which_version_gave_it_and_where() {
    let text = json!({ "choices": [{ "text": "there was" }], "model_version": "3", "region": "eu-west-1" });
    assert_eq!(
        seen(&["--prompt", "Once"], &text),
        "there was\n\nfraud.scorer@3 in eu-west-1"
    );
    let embedding = json!({ "data": [{ "embedding": [1, 2] }], "model_version": "3", "region": "eu-west-1" });
    assert_eq!(
        seen(&["--text", "a"], &embedding),
        "2 numbers: 1 2 …\n\nfraud.scorer@3 in eu-west-1"
    );
    let tensors = json!({ "outputs": [], "model_version": "3", "region": "eu-west-1" });
    let seen = seen(&["--input", "-"], &tensors);
    assert_eq!(serde_json::from_str::<Value>(&seen).unwrap(), tensors);
}

/// A region whose agent gives these answers, one a question, and then listens no more.
fn region(name: &str, answers: &'static [(u16, &'static str)]) -> (Place, std::thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place {
        region: name.parse().unwrap(),
        status: NodeStatus::Up,
        base: format!("http://{}", listener.local_addr().unwrap()),
    };
    let serve = move || {
        let mut asked = 0;
        for (status, reason) in answers {
            loop {
                let Ok((stream, _)) = listener.accept() else {
                    return asked;
                };
                if answer_one(stream, *status, reason) {
                    break;
                }
            }
            asked += 1;
        }
        asked
    };
    (place, std::thread::spawn(serve))
}

/// Reads one request and answers it: 200 with a text, else with an error of this reason. False for a look whether it lives.
fn answer_one(stream: TcpStream, status: u16, reason: &str) -> bool {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let is_question = !line.starts_with("GET /v2/health/live ");
    let (status, reason) = if is_question { (status, reason) } else { (200, "") };
    line.clear();
    while reader.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    let body = if status == 200 {
        json!({ "choices": [{ "text": "there was" }], "model_version": "1" })
    } else {
        let reason = reason.trim_end_matches(LATER_MARK);
        json!({ "error": { "reason": reason, "message": format!("{reason} here") } })
    };
    let body = body.to_string();
    let length = body.len();
    let wait = if reason == LATER { 3600 } else { 0 };
    let head = format!(
        "HTTP/1.1 {status} x\r\nretry-after: {wait}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    (&stream).write_all(format!("{head}{body}").as_bytes()).unwrap();
    is_question
}

async fn ask(places: &[Place]) -> Result<Value, Failure> {
    ask_within(Duration::from_secs(60), places).await
}

async fn ask_within(limit: Duration, places: &[Place]) -> Result<Value, Failure> {
    let args = args(&["--prompt", "Once"]);
    rounds::first_answer(&args, None, places, limit).await
}

#[tokio::test]
async fn an_agent_that_takes_a_moment_is_asked_again() {
    const LOADS: &[(u16, &str)] = &[(503, "NOT_SERVING"), (503, "NOT_SERVING"), (200, "")];
    let (place, served) = region("eu-west-1", LOADS);
    let answer = ask(&[place]).await.unwrap();
    assert_eq!(answer["region"], "eu-west-1");
    assert_eq!(served.join().unwrap(), 3);
}

/// The agent asks for more time than there is.
#[tokio::test]
async fn another_try_that_comes_too_late_is_not_waited_for() {
    let (place, served) = region("eu-west-1", &[(503, LATER)]);
    let failure = ask(&[place]).await.unwrap_err();
    assert_eq!(failure.reason, Some(Reason::NotServing), "{failure}");
    assert!(failure.remedy.contains("--timeout"), "{failure}");
    assert_eq!(served.join().unwrap(), 1);
}

/// A region that drops what is sent to it: its queue of connections is full, and nobody takes one out.
async fn deaf_region(name: &str) -> (Place, tokio::net::TcpListener, Vec<tokio::net::TcpStream>) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let place = Place {
        region: name.parse().unwrap(),
        status: NodeStatus::Up,
        base: format!("http://{address}"),
    };
    let mut queue = Vec::new();
    let full = Duration::from_secs(1);
    while let Ok(stream) = tokio::time::timeout(full, tokio::net::TcpStream::connect(address)).await {
        queue.push(stream.unwrap());
    }
    (place, listener, queue)
}

#[tokio::test]
async fn a_region_whose_packets_are_dropped_leaves_time_for_the_next() {
    let (deaf, _listener, _queue) = deaf_region("ap-southeast-1").await;
    let (well, _) = region("eu-west-1", &[(200, "")]);
    // Before the kernel gives the connection up by itself, and long after an answer is there.
    let limit = Duration::from_secs(15);
    let answer = ask_within(limit, &[deaf, well]).await.unwrap();
    assert_eq!(answer["region"], "eu-west-1");
}

#[test]
fn only_where_another_region_follows_one_must_show_soon_that_it_lives() {
    for (left, is_last, expected) in [
        (60, false, Some(2_000)),
        (3, false, Some(1_500)),
        (60, true, None),
        (3, true, None),
    ] {
        let found = life_limit(Duration::from_secs(left), is_last);
        assert_eq!(found, expected.map(Duration::from_millis), "{left} {is_last}");
    }
}

#[test]
fn only_where_no_coordinator_answers_the_agents_http_is_pointed_at() {
    let helps = |heard: Option<&str>| {
        let mut failure = Failure::new(Exit::Unavailable, "nobody").remedy("what helps");
        if let Some(heard) = heard {
            failure = failure.with("heard", heard);
        }
        let remedy = or_over_http(failure).remedy;
        assert!(remedy.starts_with("what helps"), "{remedy}");
        remedy.contains("HTTP") && remedy.contains("`regent dev`") && remedy.contains("node list")
    };
    let heard = [
        Some("silence"),
        Some("refused connections"),
        Some("distrust"),
        None,
    ];
    assert_eq!(heard.map(helps), [true, true, false, false]);
}

/// Its second answer would be one; but the next region is asked before it is asked again.
#[tokio::test]
async fn the_next_region_is_asked_before_an_overloaded_one_again() {
    let (busy, _) = region("ap-southeast-1", &[(429, "OVERLOADED"), (200, "")]);
    let (well, _) = region("eu-west-1", &[(200, "")]);
    let answer = ask(&[busy, well]).await.unwrap();
    assert_eq!(answer["region"], "eu-west-1");
}

#[tokio::test]
async fn where_all_are_overloaded_they_are_asked_again() {
    let (busy, served) = region("ap-southeast-1", &[(429, "of a proxy"), (200, "")]);
    let (ill, _) = region("eu-west-1", &[(429, "OVERLOADED")]);
    let answer = ask(&[busy, ill]).await.unwrap();
    assert_eq!(answer["region"], "ap-southeast-1");
    assert_eq!(served.join().unwrap(), 2);
}

#[tokio::test]
async fn what_one_region_cannot_another_one_may() {
    for reason in [
        "MODEL_INVALID",
        "MODEL_NOT_LOADED",
        "NOT_SERVING",
        "MODEL_NOT_FOUND",
    ] {
        let answers: &'static [(u16, &str)] = match reason {
            "MODEL_INVALID" => &[(500, "MODEL_INVALID")],
            "MODEL_NOT_LOADED" => &[(404, "MODEL_NOT_LOADED")],
            "NOT_SERVING" => &[(503, "NOT_SERVING")],
            _ => &[(404, "MODEL_NOT_FOUND")],
        };
        let (ill, _) = region("ap-southeast-1", answers);
        let (well, _) = region("eu-west-1", &[(200, "")]);
        let answer = ask(&[ill, well]).await.unwrap();
        assert_eq!(answer["region"], "eu-west-1", "{reason}");
    }
}

#[tokio::test]
async fn a_version_that_loads_nowhere_is_told_with_what_helps_and_who_was_asked() {
    let (first, _) = region("ap-southeast-1", &[(500, "MODEL_INVALID")]);
    let (second, _) = region("eu-west-1", &[(500, "MODEL_INVALID")]);
    let failure = ask(&[first, second]).await.unwrap_err();
    assert_eq!(failure.reason, Some(Reason::ModelInvalid));
    let error = failure.to_json()["error"].take();
    let remedy = error["remedy"].as_str().unwrap();
    assert!(remedy.contains("regent model versions fraud.scorer"), "{error}");
    assert_eq!(error["operands"]["region"], "ap-southeast-1", "{error}");
    assert_eq!(
        error["operands"]["asked_too"], "eu-west-1 (MODEL_INVALID)",
        "{error}"
    );
}

#[tokio::test]
async fn a_question_that_is_wrong_everywhere_is_asked_once() {
    let (first, _) = region("ap-southeast-1", &[(400, "INVALID_ARGUMENT")]);
    // Nobody asks here: a question would end the test with its answer.
    let (second, _served) = region("eu-west-1", &[(200, "")]);
    let failure = ask(&[first, second]).await.unwrap_err();
    assert_eq!(failure.reason, Some(Reason::InvalidArgument), "{failure}");
}
