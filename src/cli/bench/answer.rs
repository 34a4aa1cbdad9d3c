//! The answer to a publish.

use httparse::Status;

/// An answer that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    /// As it was sent; with chunks, what their heads say is still in it.
    pub(super) body: &'a [u8],
    /// Whether the server ends the connection after it.
    pub(super) closes: bool,
    /// Bytes on the wire.
    pub(super) length: usize,
}

/// The first answer in what was read, if it is whole.
///
/// # Errors
/// What is no HTTP/1, or has a body that only the end of the connection ends.
pub(super) fn first(bytes: &[u8]) -> Result<Option<Answer<'_>>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut headers);
    let start = match answer.parse(bytes) {
        Ok(Status::Complete(start)) => start,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("the answer to a publish is no HTTP: {error}")),
    };
    let status = answer.code.unwrap_or(0);
    let header = |name: &str| {
        let found = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let closes = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let length = header("content-length").and_then(|length| length.parse::<usize>().ok());
    let end = match (status, length) {
        (204 | 304, _) => Some(start),
        (_, Some(length)) => start.checked_add(length),
        _ if header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked")) =>
        {
            match end_of_chunks(bytes, start)? {
                None => return Ok(None),
                end => end,
            }
        }
        _ => None,
    };
    let end = end.ok_or("the answer to a publish does not say how long it is")?;
    Ok(bytes.get(start..end).map(|body| Answer { status, body, closes, length: end }))
}

/// Where the chunks are over that begin at `at`.
fn end_of_chunks(bytes: &[u8], mut at: usize) -> Result<Option<usize>, String> {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match httparse::parse_chunk_size(rest) {
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err("the answer to a publish has a broken chunk".into()),
            Ok(Status::Complete((head, 0))) => {
                // Trailers are not looked for: nobody sends them here.
                let end = at + head + 2;
                return Ok((bytes.len() >= end).then_some(end));
            }
            Ok(Status::Complete((head, length))) => {
                at = at.saturating_add(head).saturating_add(length as usize).saturating_add(2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an answer that comes byte by byte.
    fn read(text: &str) -> Result<(u16, String, bool), String> {
        for end in 0..text.len() {
            if let Some(answer) = first(&text.as_bytes()[..end])? {
                panic!("{answer:?} after {end} bytes of {text:?}");
            }
        }
        let with_next = format!("{text}HTTP/1.1 200 OK\r\n");
        let answer = first(with_next.as_bytes())?.expect("the whole answer");
        assert_eq!(answer.length, text.len());
        Ok((answer.status, String::from_utf8_lossy(answer.body).into_owned(), answer.closes))
    }

    #[test]
    fn answers() {
        for (text, status, body, closes) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, "", false),
            (
                "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                201,
                "ok",
                true,
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                200,
                "2\r\nok\r\n0\r\n\r\n",
                false,
            ),
        ] {
            assert_eq!(read(text), Ok((status, body.to_owned(), closes)), "{text:?}");
        }
        assert!(first(b"SSH-2.0-x\r\n").is_err());
        assert!(first(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "ends with the connection");
    }
}
