//! What an answer means for the question that it is about.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::{self, Vec};

use super::super::record::{Cidr, Record, within};
use super::super::report::{Error, Problem, Result};
use super::{Check, ClientName, State, Why, Work, address_kind};
use crate::dns::{Name, Outcome, Question, Records};
use crate::limits::{SPF_MX_HOSTS_MAX, SPF_PTR_NAMES_MAX};

impl Check {
    pub(super) fn answered(&mut self, why: Why, question: Question, outcome: &Outcome) -> State {
        let failed = match outcome {
            Outcome::Failed(failure) => Some(*failure),
            _ => None,
        };
        let records = match outcome {
            Outcome::Found(records) => Some(records),
            _ => None,
        };
        // RFC 7208 5: a server failure or a timeout of a term's question is a temporary error,
        // except for names of the client (5.5) and explanations (6.2).
        match (&why, failed) {
            (Why::Names(_) | Why::Validate(..) | Why::Explanation, _) | (_, None) => {}
            (_, Some(failure)) => {
                let error =
                    self.error(Problem::Dns(question, failure), !matches!(why, Why::Record));
                return self.done(Result::TempError, Some(error));
            }
        }
        match why {
            Why::Record => self.got_record(records),
            Why::Exists => match records {
                Some(Records::A(_)) => self.decide(true),
                _ => self.nothing(),
            },
            Why::A(cidr) => match records {
                Some(Records::A(_) | Records::Aaaa(_)) => {
                    let matches = self.has_client(records, cidr);
                    self.decide(matches)
                }
                _ => self.nothing(),
            },
            Why::Mx(cidr) => {
                let Some(Records::Mx(list)) = records else {
                    return self.nothing();
                };
                if list.len() > SPF_MX_HOSTS_MAX {
                    return self
                        .permanent(Problem::MxHosts(question.name.as_str().into(), list.len()));
                }
                let mut hosts: Vec<_> = list
                    .iter()
                    .filter(|mx| !mx.exchange.is_root())
                    .map(|mx| (mx.preference, mx.exchange.clone()))
                    .collect();
                // So that the order of an answer does not decide what is asked.
                hosts.sort();
                let hosts: Vec<_> = hosts.into_iter().map(|(_, host)| host).collect();
                self.next_host(cidr, hosts.into_iter())
            }
            Why::MxHost(cidr, rest) => {
                if self.has_client(records, cidr) {
                    self.decide(true)
                } else {
                    self.next_host(cidr, rest)
                }
            }
            Why::Names(work) => {
                let names = match records {
                    // RFC 7208 5.5 is about names of hosts; others would be escaped twice in %{p}.
                    Some(Records::Ptr(names)) => names
                        .iter()
                        .take(SPF_PTR_NAMES_MAX)
                        .filter(|name| name.is_hostname())
                        .map(|name| ClientName {
                            name: name.clone(),
                            valid: None,
                        })
                        .collect(),
                    _ => Vec::new(),
                };
                let void = records.is_none() && failed.is_none();
                self.names = Some(names);
                if void && matches!(work, Work::Term | Work::End) && !self.void() {
                    return self.permanent(Problem::VoidLookups);
                }
                State::Work(work)
            }
            Why::Validate(n, work) => {
                let valid = self.has_client(records, Cidr::WHOLE);
                if let Some(name) = self.names.as_mut().and_then(|names| names.get_mut(n)) {
                    name.valid = Some(valid);
                }
                State::Work(work)
            }
            Why::Explanation => match records {
                // RFC 7208 6.2: one record, in ASCII.
                Some(Records::Txt(texts)) => match texts.as_ref() {
                    [text] => match core::str::from_utf8(text) {
                        Ok(text) => State::Work(Work::Text(Arc::from(text))),
                        Err(_) => self.done(Result::Fail, None),
                    },
                    _ => self.done(Result::Fail, None),
                },
                _ => self.done(Result::Fail, None),
            },
        }
    }

    /// RFC 7208 4.5: there must be one record.
    fn got_record(&mut self, records: Option<&Records>) -> State {
        let texts: &[Box<[u8]>] = match records {
            Some(Records::Txt(texts)) => texts,
            _ => &[],
        };
        let mut found = texts.iter().filter(|text| Record::is_spf(text));
        let Some(text) = found.next() else {
            return self.no_record(records.is_none());
        };
        let more = found.count();
        if more > 0 {
            let error = self.error(Problem::ManyRecords(more + 1), false);
            return self.done(Result::PermError, Some(error));
        }
        match Record::parse(text) {
            Ok(record) => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.record = Arc::from(record.as_str());
                }
                State::Work(Work::Next)
            }
            Err(error) => {
                let word = text
                    .split(|&b| b == b' ')
                    .scan(0, |end, word| {
                        *end += word.len() + 1;
                        Some((*end, word))
                    })
                    .find(|&(end, _)| end > error.at)
                    .map(|(_, word)| String::from_utf8_lossy(word).into_owned());
                let mut report = self.error(Problem::Syntax(error), false);
                report.term = word;
                self.done(Result::PermError, Some(report))
            }
        }
    }

    fn no_record(&mut self, void: bool) -> State {
        let Some(frame) = self.frames.pop() else {
            return self.done(Result::None, None);
        };
        let Some(by) = frame.by else {
            // RFC 7208 4.5: nothing to evaluate.
            self.frames.push(frame);
            return self.done(Result::None, None);
        };
        // RFC 7208 5.2, 6.1.
        self.void_lookups += u32::from(void);
        let error = Error {
            domain: by.domain,
            term: Some(by.term),
            problem: Problem::NoRecord(frame.domain),
        };
        self.done(Result::PermError, Some(error))
    }

    /// The term's answer is void.
    fn nothing(&mut self) -> State {
        if self.void() {
            self.decide(false)
        } else {
            self.permanent(Problem::VoidLookups)
        }
    }

    /// Asks for the addresses of the next MX host (RFC 7208 5.4).
    fn next_host(&mut self, cidr: Cidr, mut hosts: vec::IntoIter<Name>) -> State {
        match hosts.next() {
            Some(host) => State::Ask(
                Question::new(host, address_kind(self.client.ip)),
                Why::MxHost(cidr, hosts),
            ),
            None => self.decide(false),
        }
    }

    fn has_client(&self, records: Option<&Records>, cidr: Cidr) -> bool {
        let ip = self.client.ip;
        match records {
            Some(Records::A(all)) => all.iter().any(|&a| within(ip, a.into(), cidr.v4)),
            Some(Records::Aaaa(all)) => all.iter().any(|&a| within(ip, a.into(), cidr.v6)),
            _ => false,
        }
    }
}
