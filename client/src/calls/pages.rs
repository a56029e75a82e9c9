//! Lists that come in pages.

use types::reason::Refusal;

/// Asks for page after page, each by the token that came with the one before, until one has no next; a page that is empty may
/// have one.
pub(super) async fn all<T, Answer>(mut page: impl FnMut(String) -> Answer) -> Result<Vec<T>, Refusal>
where
    Answer: Future<Output = Result<(Vec<T>, String), Refusal>>,
{
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let (found, next) = page(token).await?;
        all.extend(found);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    use types::Reason;

    use super::*;

    #[tokio::test]
    async fn an_empty_page_with_a_next_one_is_not_the_end() {
        let mut asked = Vec::new();
        let found = all(|token| {
            let answer = match token.as_str() {
                "" => (vec![1, 2], "a"),
                "a" => (vec![], "b"),
                _ => (vec![3], ""),
            };
            asked.push(token);
            async move { Ok((answer.0, answer.1.to_owned())) }
        });
        assert_eq!(found.await.unwrap(), [1, 2, 3]);
        assert_eq!(asked, ["", "a", "b"]);
    }

    #[tokio::test]
    async fn a_refusal_of_any_page_is_the_answer() {
        let found = all(|token| async move {
            match token.as_str() {
                "" => Ok((vec![1], "a".to_owned())),
                _ => Err(Refusal::new(Reason::InvalidArgument, "gone")),
            }
        });
        assert_eq!(found.await.unwrap_err().reason, Reason::InvalidArgument);
    }
}
