//! A file of tokens (`--token-auth-file`): CSV with token, user name, UID and optionally groups.
//!
//! It is read at the start only, as upstream's (`apiserver/pkg/authentication/token/tokenfile`).

use std::collections::HashMap;
use std::path::Path;

use ring::digest;

use super::User;

/// Why such a file cannot be used.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Error {
    #[error("cannot read it")]
    Read(#[from] std::io::Error),
    #[error("record {0}: a quote is not closed, or stands in the middle of a field")]
    Quote(usize),
    #[error(
        "record {record}: token file must have at least 3 columns (token, user name, user uid), found {found}"
    )]
    Columns { record: usize, found: usize },
}

/// The users of tokens, by the tokens' digests: how long a look-up takes says nothing of a token.
pub(crate) struct TokenFile {
    users: HashMap<[u8; 32], User>,
}

fn digest(token: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    digest
}

impl TokenFile {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        parse(&std::fs::read_to_string(path)?)
    }

    pub(super) fn user(&self, token: &str) -> Option<User> {
        self.users.get(&digest(token)).cloned()
    }
}

pub(crate) fn parse(text: &str) -> Result<TokenFile, Error> {
    let mut users = HashMap::new();
    for (number, record) in records(text)?.into_iter().enumerate() {
        let number = number + 1;
        let found = record.len();
        let mut fields = record.into_iter();
        let (Some(token), Some(name), Some(uid)) = (fields.next(), fields.next(), fields.next())
        else {
            return Err(Error::Columns {
                record: number,
                found,
            });
        };
        if token.is_empty() {
            tracing::warn!(
                record = number,
                "An empty token in the token file is passed over"
            );
            continue;
        }
        let groups = fields
            .next()
            .map(|groups| groups.split(',').map(str::to_owned).collect());
        let user = User {
            name,
            uid,
            groups: groups.unwrap_or_default(),
            ..User::default()
        };
        if users.insert(digest(&token), user).is_some() {
            tracing::warn!(
                record = number,
                "The token file has a token twice; the last one counts"
            );
        }
    }
    Ok(TokenFile { users })
}

/// The records of a text in CSV (RFC 4180); empty lines are none.
fn records(text: &str) -> Result<Vec<Vec<String>>, Error> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let number = records.len() + 1;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => {
                quoted = false;
                if !matches!(chars.peek(), None | Some(',' | '\n' | '\r')) {
                    return Err(Error::Quote(number));
                }
            }
            _ if quoted => field.push(c),
            '"' if field.is_empty() => quoted = true,
            '"' => return Err(Error::Quote(number)),
            ',' => record.push(std::mem::take(&mut field)),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => end(&mut records, &mut record, &mut field),
            _ => field.push(c),
        }
    }
    if quoted {
        return Err(Error::Quote(records.len() + 1));
    }
    end(&mut records, &mut record, &mut field);
    Ok(records)
}

fn end(records: &mut Vec<Vec<String>>, record: &mut Vec<String>, field: &mut String) {
    if record.is_empty() && field.is_empty() {
        return;
    }
    record.push(std::mem::take(field));
    records.push(std::mem::take(record));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_token_and_its_user() {
        let text = "t1,ann,u1\n\nt2,bob,u2,\"dev,ops\"\r\nt3,\"c \"\"d\"\"\",u3,one\n,nobody,u4";
        let file = parse(text).unwrap();
        let user = |token: &str| {
            let user = file.user(token).unwrap();
            (user.name, user.uid, user.groups.join("|"))
        };
        let of = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(user("t1"), of("ann", "u1", ""));
        assert_eq!(user("t2"), of("bob", "u2", "dev|ops"));
        assert_eq!(user("t3"), of("c \"d\"", "u3", "one"));
        assert!(file.user("").is_none() && file.user("t").is_none());
    }

    #[test]
    fn a_broken_file_is_refused() {
        assert!(matches!(
            parse("t,ann"),
            Err(Error::Columns {
                record: 1,
                found: 2
            })
        ));
        assert!(matches!(parse("t,ann,u\nt,\"b,u"), Err(Error::Quote(2))));
        assert!(matches!(parse("t,a\"b,u"), Err(Error::Quote(1))));
        assert!(matches!(parse("t,\"a\"b,u"), Err(Error::Quote(1))));
    }
}
