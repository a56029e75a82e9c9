//! Regions that take a question and do not answer it.

use tokio::net::TcpSocket;

use super::*;

/// A region whose processes are stopped: the kernel takes connections for it, and nobody ever answers.
fn frozen_region(name: &str) -> (Place, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place {
        region: name.parse().unwrap(),
        status: NodeStatus::Up,
        base: format!("http://{}", listener.local_addr().unwrap()),
    };
    (place, listener)
}

/// The second round is for the one that is busy, and asks nobody who was silent.
#[tokio::test]
async fn a_frozen_region_leaves_time_for_the_next_and_is_asked_once() {
    let (frozen, listener) = frozen_region("ap-southeast-1");
    let (busy, _) = region("eu-west-1", &[(429, "OVERLOADED"), (200, "")]);
    let limit = Duration::from_secs(10);
    let answer = ask_within(limit, &[frozen, busy]).await.unwrap();
    assert_eq!(answer["region"], "eu-west-1");
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.incoming().take_while(Result::is_ok).count(), 1);
}

#[tokio::test]
async fn where_nobody_answers_each_is_named_with_how_it_was() {
    let (frozen, _listener) = frozen_region("ap-southeast-1");
    // It has a port, and does not listen there.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = Place {
        region: "eu-west-1".parse().unwrap(),
        status: NodeStatus::Down,
        base: format!("http://{}", socket.local_addr().unwrap()),
    };
    let limit = Duration::from_secs(6);
    let failure = ask_within(limit, &[frozen, gone]).await.unwrap_err();
    let told = "fraud.scorer: no answer from ap-southeast-1 (silent for ";
    assert!(failure.message.starts_with(told), "{failure}");
    let told = "s), eu-west-1 (DOWN to the registry, not reached: nobody listens there)";
    assert!(failure.message.ends_with(told), "{failure}");
    assert_eq!(failure.exit, Exit::Unavailable);
}

#[tokio::test]
async fn a_frozen_region_alone_is_told_in_our_words_and_with_what_helps() {
    let (frozen, _listener) = frozen_region("ap-southeast-1");
    let failure = ask_within(Duration::from_secs(2), &[frozen]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    let told = "no answer from ap-southeast-1 (silent for ";
    assert!(failure.message.contains(told), "{failure}");
    assert!(!failure.message.contains("http"), "{failure}");
    for way in ["`regent region list`", "--region", "--timeout"] {
        assert!(failure.remedy.contains(way), "{way}: {failure}");
    }
}

#[tokio::test]
async fn a_refusal_says_more_than_the_silence_of_another_region() {
    let (ill, _) = region("ap-southeast-1", &[(500, "MODEL_INVALID")]);
    let (frozen, _listener) = frozen_region("eu-west-1");
    let failure = ask_within(Duration::from_secs(4), &[ill, frozen])
        .await
        .unwrap_err();
    assert_eq!(failure.reason, Some(Reason::ModelInvalid), "{failure}");
    let others = &failure.operands["asked_too"];
    assert!(others.starts_with("eu-west-1 (silent for "), "{failure}");
}

/// It lives, and works on the question for longer than a look at it may take.
#[tokio::test]
async fn a_slow_region_is_not_taken_for_a_frozen_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = Place {
        region: "ap-southeast-1".parse().unwrap(),
        status: NodeStatus::Up,
        base: format!("http://{}", listener.local_addr().unwrap()),
    };
    // The next one is asked only if this one is given up: then it takes the question before this one answers.
    let (next, next_is_asked) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        std::sync::mpsc::channel(),
    );
    let other = Place {
        region: "eu-west-1".parse().unwrap(),
        status: NodeStatus::Up,
        base: format!("http://{}", next.local_addr().unwrap()),
    };
    let (asked, heard) = next_is_asked;
    std::thread::spawn(move || drop(next.accept().map(|_| asked.send(()))));
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut first = [0; 4];
            let is_question = stream.peek(&mut first).is_ok() && &first == b"POST";
            if is_question {
                // Longer than a sign of life may take, unless somebody else is asked meanwhile.
                let _ = heard.recv_timeout(Duration::from_millis(2_500));
            }
            answer_one(stream, 200, "");
        }
    });
    let answer = ask_within(Duration::from_secs(60), &[slow, other]).await.unwrap();
    assert_eq!(answer["region"], "ap-southeast-1");
}
