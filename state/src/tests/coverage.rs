//! Which of the fields that `proto/log.proto` describes are set in given bytes.
//!
//! Absent on purpose: the generated types and the codec. A field that is left out of either, or has another number in them than in
//! the bytes, is seen because nobody here asks them.

use std::collections::{BTreeMap, BTreeSet};

use prost::{
    Message as _,
    encoding::{WireType, decode_key, decode_varint},
};
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};

const PACKAGE: &str = ".regent.log.v1";

/// What a message has by a number: the field's name, its kind, and the name of its message or enum.
type Fields = BTreeMap<u32, (String, Type, String)>;

pub(super) struct Coverage {
    messages: BTreeMap<String, Fields>,
    /// The values of each enum by number, without the one that says nothing.
    enums: BTreeMap<String, BTreeMap<i32, String>>,
    /// `Message.field` and `Enum.VALUE`.
    seen: BTreeSet<String>,
}

impl Coverage {
    /// Of nothing yet.
    pub(super) fn new() -> Self {
        let set = FileDescriptorSet::decode(&include_bytes!("../gen/descriptor.bin")[..]).unwrap();
        let mut new = Self {
            messages: BTreeMap::new(),
            enums: BTreeMap::new(),
            seen: BTreeSet::new(),
        };
        for file in set.file {
            for message in &file.message_type {
                new.describe(PACKAGE, message);
            }
            for described in file.enum_type {
                let values = described.value.iter().filter(|v| v.number() != 0);
                let values = values.map(|v| (v.number(), v.name().to_owned())).collect();
                new.enums
                    .insert(format!("{PACKAGE}.{}", described.name()), values);
            }
        }
        new
    }

    fn describe(&mut self, within: &str, message: &DescriptorProto) {
        let name = format!("{within}.{}", message.name());
        for nested in &message.nested_type {
            self.describe(&name, nested);
        }
        let fields = message.field.iter().map(|f| {
            let number = u32::try_from(f.number()).unwrap();
            (
                number,
                (f.name().to_owned(), f.r#type(), f.type_name().to_owned()),
            )
        });
        self.messages.insert(name, fields.collect());
    }

    /// Notes what is set in the bytes of one message.
    pub(super) fn take(&mut self, message: &str, bytes: &[u8]) {
        self.message(&format!("{PACKAGE}.{message}"), bytes);
    }

    fn message(&mut self, name: &str, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (number, wire) = decode_key(&mut bytes).unwrap();
            let (field, kind, of) = self.messages[name]
                .get(&number)
                .unwrap_or_else(|| panic!("{name} has no field {number}, and the frozen bytes have one"))
                .clone();
            match wire {
                WireType::Varint => {
                    let value = decode_varint(&mut bytes).unwrap();
                    if kind == Type::Enum {
                        self.value(&of, i32::try_from(value).unwrap());
                    }
                }
                WireType::LengthDelimited => {
                    let length = usize::try_from(decode_varint(&mut bytes).unwrap()).unwrap();
                    let (payload, rest) = bytes.split_at(length);
                    bytes = rest;
                    if kind == Type::Message {
                        self.message(&of, payload);
                    }
                }
                WireType::SixtyFourBit
                | WireType::ThirtyTwoBit
                | WireType::StartGroup
                | WireType::EndGroup => {
                    panic!("{name}.{field} is {wire:?}, and no field of log.proto is")
                }
            }
            self.seen.insert(format!("{name}.{field}"));
        }
    }

    fn value(&mut self, name: &str, value: i32) {
        let known = self.enums[name].get(&value);
        let known =
            known.unwrap_or_else(|| panic!("{name} has no value {value}, and the frozen bytes have one"));
        self.seen.insert(format!("{name}.{known}"));
    }

    /// What is reached from a message and was set nowhere, in the order of names, without the package.
    pub(super) fn missing(&self, root: &str) -> Vec<String> {
        let (mut open, mut reached) = (vec![format!("{PACKAGE}.{root}")], BTreeSet::new());
        let mut all = BTreeSet::new();
        while let Some(name) = open.pop() {
            if !reached.insert(name.clone()) {
                continue;
            }
            for (field, kind, of) in self.messages[&name].values() {
                all.insert(format!("{name}.{field}"));
                if *kind == Type::Message {
                    open.push(of.clone());
                }
                if *kind == Type::Enum {
                    all.extend(self.enums[of].values().map(|v| format!("{of}.{v}")));
                }
            }
        }
        let short = |name: &String| {
            name.trim_start_matches(PACKAGE)
                .trim_start_matches('.')
                .to_owned()
        };
        all.difference(&self.seen).map(short).collect()
    }
}
