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
    let limit = Duration::from_millis(600);
    let failure = ask_within(limit, &[frozen, gone]).await.unwrap_err();
    let told = "fraud.scorer: no answer from ap-southeast-1 (silent for ";
    assert!(failure.message.starts_with(told), "{failure}");
    let told = "ms), eu-west-1 (DOWN to the registry, not reached: nobody listens there)";
    assert!(failure.message.ends_with(told), "{failure}");
    assert_eq!(failure.exit, Exit::Unavailable);
}

#[tokio::test]
async fn a_frozen_region_alone_is_told_in_our_words_and_with_what_helps() {
    let (frozen, _listener) = frozen_region("ap-southeast-1");
    let failure = ask_within(Duration::from_millis(300), &[frozen])
        .await
        .unwrap_err();
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
