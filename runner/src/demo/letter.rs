//! The newsletter: one letter for each recipient, personal from its first line to the link at its
//! end, so that no two are the same.

use std::fmt::Write as _;

use super::world::{SENDER_DOMAIN, World};

/// Size that the letters are brought to, octets: an ordinary newsletter without its pictures, as
/// small as keeps the demo short.
const BYTES: usize = 3000;

/// The envelope sender, where bounces go.
pub fn sender() -> String {
    format!("bounces@{SENDER_DOMAIN}")
}

/// The letter to these recipients: to one in person, or to several with an announcement.
pub fn write(world: &World, recipients: &[u32], date: &str) -> Vec<u8> {
    let mut text = String::with_capacity(BYTES + 200);
    let i = recipients[0];
    let (first, last) = world.name(i);
    let to = match recipients {
        [i] => format!("{first} {last} <{}>", world.address(*i)),
        _ => "Our friends: ;".to_owned(),
    };
    let stream = match recipients {
        [_] => "newsletter",
        _ => "announcements",
    };
    let _ = write!(
        text,
        "X-Courser-Campaign: demo-{stream}\r\n\
         Date: {date}\r\n\
         From: The Courser Gazette <gazette@{SENDER_DOMAIN}>\r\n\
         To: {to}\r\n\
         Subject: {first}, your letter of the week\r\n\
         Message-ID: <{i}.{}@{SENDER_DOMAIN}>\r\n\
         List-Unsubscribe: <https://{SENDER_DOMAIN}/leave/{i}>\r\n\
         List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         Dear {first} {last},\r\n\
         \r\n",
        recipients.len()
    );
    let mut line = 0;
    while text.len() < BYTES {
        let _ = write!(
            text,
            "{}. A courser is a fast horse, and this is paragraph {line} of letter {i}.\r\n\
             .. Lines that begin with a dot arrive with as many dots as they had.\r\n",
            line + 1
        );
        line += 1;
    }
    let _ = write!(text, "\r\nhttps://{SENDER_DOMAIN}/read/{i}\r\n");
    text.into_bytes()
}
