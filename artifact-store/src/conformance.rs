//! One suite for every back end: what callers may rely on, whatever is behind the trait.

use std::{collections::BTreeSet, io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, future::join_all, stream};
use tokio_util::sync::CancellationToken;
use types::{ByteCount, Digest, UnixMillis};

use crate::{ArtifactStore, Condition, ETag, ErrorKind, ObjectKey, PutError, Upload, probe::probe_fencing};

type Store = Arc<dyn ArtifactStore>;

/// Above one part of the S3 back end, so that a multipart upload is needed, and no multiple of it.
const LARGE: usize = (17 << 20) + 3;

/// What a server is known to do worse than AWS, so that the rest can be checked against it all the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Known {
    /// Nothing: what AWS promises holds.
    AsAws,
    /// Complete ignores If-Match, and of racing Completes more than one wins. AWS honours it and lets one win.
    #[cfg(feature = "s3")]
    CompleteIsNotGuarded,
}

/// All checks, one after the other, so that the first broken promise is the one that is named.
pub(crate) async fn check_store(store: Store, known: Known) {
    objects_read_back_whole_and_by_range(&store).await;
    missing_objects_are_answers_and_not_errors(&store).await;
    keys_may_be_prefixes_of_each_other_and_hold_any_text(&store).await;
    lists_have_pages_in_key_order(&store).await;
    wrong_bytes_are_never_visible(&store).await;
    conditions_hold_at_the_commit(&store).await;
    of_racing_creations_one_wins(&store).await;
    of_racing_replacements_one_wins(&store).await;
    large_uploads_are_atomic_and_conditional(&store).await;
    if known == Known::AsAws {
        of_racing_large_creations_one_wins(&store).await;
        large_replacements_are_conditional(&store).await;
    }
    uploads_that_were_left_behind_are_taken_back_and_no_others(&store).await;
    probe_fencing(&*store).await.unwrap();
}

pub(crate) fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

pub(crate) async fn read(store: &Store, text: &str) -> Option<Bytes> {
    let body = store.get(&key(text)).await.unwrap()?;
    let chunks: Vec<Bytes> = body.bytes.map(|chunk| chunk.unwrap()).collect().await;
    Some(chunks.concat().into())
}

/// Bytes without a pattern that a wrong offset would hide.
pub(crate) fn noise(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(next)
        .take(length)
        .collect::<Vec<u8>>()
        .into()
}

fn upload(body: &Bytes, condition: Option<Condition>) -> Upload {
    let chunks: Vec<io::Result<Bytes>> = body
        .chunks(1 << 20)
        .map(|c| Ok(Bytes::copy_from_slice(c)))
        .collect();
    let (size, digest) = (ByteCount(body.len() as u64), Digest::of(body));
    Upload {
        body: stream::iter(chunks).boxed(),
        size,
        digest,
        condition,
        stop: CancellationToken::new(),
    }
}

fn is_lost(outcome: &Result<ETag, PutError>) -> bool {
    matches!(
        outcome,
        Err(PutError::PreconditionFailed { .. } | PutError::Conflict { .. })
    )
}

async fn objects_read_back_whole_and_by_range(store: &Store) {
    for (name, body) in [("read/empty", Bytes::new()), ("read/some", noise(100_000))] {
        let etag = store.put(&key(name), body.clone()).await.unwrap();
        let head = store.head(&key(name)).await.unwrap().unwrap();
        assert_eq!((head.size.0, &head.etag), (body.len() as u64, &etag));
        assert_eq!(store.get(&key(name)).await.unwrap().unwrap().head, head);
        assert_eq!(read(store, name).await.unwrap(), body);
        assert_eq!(store.list(name, None).await.unwrap().objects[0].etag, etag);
    }
    let body = noise(100_000);
    for range in [0..1, 99_999..100_000, 5..70_000, 0..100_000, 7..7] {
        let expected = body.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        assert_eq!(store.get_range(&key("read/some"), range).await.unwrap(), expected);
    }
    for range in [99_999..100_001, 100_000..100_001, 200_000..200_001] {
        let error = store.get_range(&key("read/some"), range).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::OutOfRange);
    }
    let replaced = store.put(&key("read/some"), noise(10)).await.unwrap();
    assert_eq!(
        store.head(&key("read/some")).await.unwrap().unwrap().etag,
        replaced
    );
}

async fn missing_objects_are_answers_and_not_errors(store: &Store) {
    assert_eq!(store.head(&key("missing")).await.unwrap(), None);
    assert!(store.get(&key("missing")).await.unwrap().is_none());
    store.delete(&key("missing")).await.unwrap();
    let error = store.get_range(&key("missing"), 0..1).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    for part in [store.name(), "missing", error.kind.remedy()] {
        assert!(error.to_string().contains(part), "{part:?} is not in {error}");
    }
    store
        .put(&key("missing"), Bytes::from_static(b"now"))
        .await
        .unwrap();
    store.delete(&key("missing")).await.unwrap();
    assert_eq!(store.head(&key("missing")).await.unwrap(), None);
}

async fn keys_may_be_prefixes_of_each_other_and_hold_any_text(store: &Store) {
    let names = [
        "k/a",
        "k/a/b",
        "k/a/b/c",
        "k/a@",
        "k/a@/b",
        "k/ä ö+%2F",
        "k/~(1)&=;'",
        "k/.hidden",
        "k/a%40",
    ];
    for name in names {
        store
            .put(&key(name), Bytes::from_static(name.as_bytes()))
            .await
            .unwrap();
    }
    for name in names {
        assert_eq!(read(store, name).await.unwrap(), name.as_bytes());
    }
    let listed: BTreeSet<String> = store
        .list("k/", None)
        .await
        .unwrap()
        .objects
        .into_iter()
        .map(|object| object.key)
        .collect();
    assert_eq!(listed, names.map(str::to_owned).into());
}

async fn lists_have_pages_in_key_order(store: &Store) {
    let names: Vec<String> = (0..1003).map(|n| format!("list/{n:04}")).collect();
    let puts =
        stream::iter(&names).map(|name| async move { store.put(&key(name), Bytes::new()).await.unwrap() });
    puts.buffer_unordered(16).collect::<Vec<_>>().await;
    store.put(&key("listed-not"), Bytes::new()).await.unwrap();
    let first = store.list("list/", None).await.unwrap();
    let second = store.list("list/", first.next.clone()).await.unwrap();
    assert_eq!(
        (first.objects.len(), second.objects.len(), &second.next),
        (1000, 3, &None)
    );
    let listed: Vec<String> = first
        .objects
        .into_iter()
        .chain(second.objects)
        .map(|object| object.key)
        .collect();
    assert_eq!(listed, names);
    assert_eq!(store.list("list/none", None).await.unwrap().objects, []);
}

async fn wrong_bytes_are_never_visible(store: &Store) {
    for (name, length) in [("wrong/small", 1000), ("wrong/large", LARGE)] {
        let body = noise(length);
        let check = async |upload: Upload, expected: fn(&ErrorKind) -> bool| {
            let error = store.put_stream(&key(name), upload).await.unwrap_err();
            assert!(
                matches!(&error, PutError::Failed(e) if expected(&e.kind)),
                "{name}: {error:?}"
            );
            assert_eq!(store.head(&key(name)).await.unwrap(), None, "{name}");
        };
        let wrong_digest = Upload {
            digest: Digest::of(b"else"),
            ..upload(&body, None)
        };
        check(wrong_digest, |kind| {
            matches!(kind, ErrorKind::DigestMismatch { .. })
        })
        .await;
        let more = Upload {
            size: ByteCount(length as u64 - 1),
            ..upload(&body, None)
        };
        check(more, |kind| matches!(kind, ErrorKind::SizeMismatch { .. })).await;
        let fewer = Upload {
            size: ByteCount(length as u64 + 1),
            ..upload(&body, None)
        };
        check(fewer, |kind| matches!(kind, ErrorKind::SizeMismatch { .. })).await;
        let mut broken = upload(&body, None);
        let cut = stream::iter([Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
        broken.body = broken.body.take(1).chain(cut).boxed();
        check(broken, |kind| *kind == ErrorKind::BodyFailed).await;
    }
}

async fn conditions_hold_at_the_commit(store: &Store) {
    let name = key("condition");
    let never = Condition::Matches(ETag::new("00000000000000000000000000000000"));
    // AWS answers 404 to this; for a caller it is a precondition that did not hold.
    assert!(is_lost(&store.put_if(&name, noise(1), never.clone()).await));
    let first = store.put_if(&name, noise(1), Condition::Absent).await.unwrap();
    assert!(is_lost(&store.put_if(&name, noise(2), Condition::Absent).await));
    assert!(is_lost(&store.put_if(&name, noise(2), never).await));
    assert_eq!(read(store, "condition").await.unwrap(), noise(1));
    let second = store
        .put_if(&name, noise(3), Condition::Matches(first.clone()))
        .await
        .unwrap();
    assert_ne!(first, second);
    assert!(is_lost(
        &store.put_if(&name, noise(4), Condition::Matches(first)).await
    ));
    assert_eq!(read(store, "condition").await.unwrap(), noise(3));
}

/// Eight writers at once; the body that must stand there afterwards, and its ETag.
async fn race(store: &Store, name: &str, condition: &Condition) -> (Bytes, ETag) {
    let bodies: Vec<Bytes> = (0..8)
        .map(|n| format!("{name} {n} {condition:?}").into())
        .collect();
    let name = key(name);
    let writes = bodies
        .iter()
        .map(|body| store.put_if(&name, body.clone(), condition.clone()));
    let outcomes = join_all(writes).await;
    let winners: Vec<usize> = (0..8).filter(|n| outcomes[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    assert_eq!(
        outcomes.iter().filter(|outcome| is_lost(outcome)).count(),
        7,
        "{outcomes:?}"
    );
    (
        bodies[winners[0]].clone(),
        outcomes[winners[0]].as_ref().unwrap().clone(),
    )
}

async fn of_racing_creations_one_wins(store: &Store) {
    for n in 0..20 {
        let name = format!("race/create/{n}");
        let (body, _) = race(store, &name, &Condition::Absent).await;
        assert_eq!(read(store, &name).await.unwrap(), body);
    }
}

async fn of_racing_replacements_one_wins(store: &Store) {
    let name = "race/replace";
    let mut etag = store.put(&key(name), Bytes::from_static(b"first")).await.unwrap();
    for _ in 0..20 {
        let (body, next) = race(store, name, &Condition::Matches(etag)).await;
        assert_eq!(read(store, name).await.unwrap(), body);
        etag = next;
    }
}

async fn of_racing_large_creations_one_wins(store: &Store) {
    let (one, two) = (noise(LARGE), noise(LARGE - 1));
    let name = key("race/large");
    let (a, b) = tokio::join!(
        store.put_stream(&name, upload(&one, Some(Condition::Absent))),
        store.put_stream(&name, upload(&two, Some(Condition::Absent))),
    );
    assert!(is_lost(&a) != is_lost(&b), "{a:?} {b:?}");
    let winner = if a.is_ok() { &one } else { &two };
    assert_eq!(
        Digest::of(&read(store, "race/large").await.unwrap()),
        Digest::of(winner)
    );
}

async fn large_uploads_are_atomic_and_conditional(store: &Store) {
    let (body, other) = (noise(LARGE), noise(LARGE - 1));
    let name = key("large");
    let etag = store
        .put_stream(&name, upload(&body, Some(Condition::Absent)))
        .await
        .unwrap();
    assert!(is_lost(
        &store
            .put_stream(&name, upload(&other, Some(Condition::Absent)))
            .await
    ));
    assert_eq!(
        Digest::of(&read(store, "large").await.unwrap()),
        Digest::of(&body)
    );
    let bytes = store
        .get_range(&name, (8 << 20) - 5..(8 << 20) + 5)
        .await
        .unwrap();
    assert_eq!(bytes, body.slice((8 << 20) - 5..(8 << 20) + 5));
    assert_eq!(store.head(&name).await.unwrap().unwrap().etag, etag);
}

async fn large_replacements_are_conditional(store: &Store) {
    let (body, other) = (noise(LARGE), noise(LARGE - 1));
    let name = key("large/replaced");
    let etag = store.put_stream(&name, upload(&body, None)).await.unwrap();
    let matches = |etag: ETag| Some(Condition::Matches(etag));
    let replaced = store
        .put_stream(&name, upload(&other, matches(etag.clone())))
        .await
        .unwrap();
    assert!(is_lost(
        &store.put_stream(&name, upload(&body, matches(etag))).await
    ));
    assert_eq!(store.head(&name).await.unwrap().unwrap().etag, replaced);
}

/// An upload of `name` that nobody will go on with: its caller was dropped when a part had been sent.
pub(crate) async fn leave_behind(store: &Store, name: &str) {
    let (sent, half_way) = tokio::sync::oneshot::channel();
    let first = stream::iter([Ok(noise(9 << 20))]);
    let rest = stream::once(async move {
        sent.send(()).unwrap();
        std::future::pending().await
    });
    let left = Upload {
        body: first.chain(rest).boxed(),
        size: ByteCount(LARGE as u64),
        ..Upload::of_bytes(Bytes::new())
    };
    let name = key(name);
    tokio::select! {
        put = store.put_stream(&name, left) => panic!("{put:?}"),
        at_half = half_way => at_half.unwrap(),
    }
}

async fn uploads_that_were_left_behind_are_taken_back_and_no_others(store: &Store) {
    let far = UnixMillis(u64::MAX);
    leave_behind(store, "left/behind").await;
    let younger = store.abort_uploads("left/", UnixMillis(0)).await.unwrap();
    let elsewhere = store.abort_uploads("elsewhere/", far).await.unwrap();
    assert_eq!((younger, elsewhere), (0, 0));
    // A store that keeps nothing of them has none.
    assert!(store.abort_uploads("left/", far).await.unwrap() <= 1);
    assert_eq!(store.abort_uploads("left/", far).await.unwrap(), 0);
    assert_eq!(store.head(&key("left/behind")).await.unwrap(), None);
    let body = noise(LARGE);
    store
        .put_stream(&key("left/behind"), upload(&body, None))
        .await
        .unwrap();
}
