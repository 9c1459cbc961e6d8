//! The macros behind the table of datagrams in `proto.rs`: each message is declared once, and from
//! that come its struct, encoder and decoder, and its variants of `Kind` and `Datagram`.
//!
//! A field is `name: Type = Key`, in the order in which it is written; `or default` makes a field
//! optional, with the type's default. A field without a key is a group of fields, written inline
//! among the others. `value.rs` reads and writes each type.

/// Declares structs whose fields are those of a datagram, or of a part of one.
macro_rules! groups {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident $(<$life:lifetime>)? {
            $($(#[$doc:meta])* $field:ident: $type:ty $(= $key:ident $(or $default:ident)?)?,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl<'a> Group<'a> for $name $(<$life>)? {
            const KEYS: &'static [Key] = &[$($(Key::$key,)?)*];

            fn read(fields: &Fields<'a>) -> Result<Self, DecodeError> {
                Ok($name { $($field: groups!(@read fields $($key $($default)?)?)?,)* })
            }

            fn write(&self, out: &mut Object) {
                $(groups!(@write out, self.$field $(, $key)?);)*
            }
        }
    )*};
    (@read $fields:ident) => { Group::read($fields) };
    (@read $fields:ident $key:ident) => { $fields.get(Key::$key) };
    (@read $fields:ident $key:ident $default:ident) => { $fields.get_or_default(Key::$key) };
    (@write $out:ident, $value:expr) => { Group::write(&$value, $out) };
    (@write $out:ident, $value:expr, $key:ident) => { $out.put(Key::$key, &$value) };
}

/// Declares the types of datagrams: first the requests, whose fields are those of `Request` and
/// `Auth`, then the others, each with its struct.
macro_rules! messages {
    (
        requests { $($(#[$request_doc:meta])* $request:ident,)* }
        $($(#[$doc:meta])* $kind:ident = $message:ident $(<$life:lifetime>)? { $($fields:tt)* })*
    ) => {
        /// The types of datagrams, by their names on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray)]
        #[strum(serialize_all = "UPPERCASE")]
        pub enum Kind {
            $($(#[$request_doc])* $request,)*
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Returns whether this is the type of a [`Request`], which a registry answers.
            pub fn is_request(self) -> bool {
                matches!(self, $(Kind::$request)|*)
            }
        }

        /// A datagram of any type, with all its fields.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Datagram<'a> {
            /// REGISTER, LEAVE or QUERY, with its proof.
            Request(Request, Auth),
            $($(#[$doc])* $kind($message $(<$life>)?),)*
        }

        impl<'a> Datagram<'a> {
            fn read(kind: Kind, fields: &Fields<'a>) -> Result<Datagram<'a>, DecodeError> {
                Ok(match kind {
                    $(Kind::$request)|* => {
                        Datagram::Request(Request::read(kind, fields)?, Group::read(fields)?)
                    }
                    $(Kind::$kind => Datagram::$kind(Group::read(fields)?),)*
                })
            }

            /// Encodes the datagram as JSON.
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    Datagram::Request(request, auth) => request.encode(auth),
                    $(Datagram::$kind(message) => message.encode(),)*
                }
            }
        }

        $(
            groups! { $(#[$doc])* pub struct $message $(<$life>)? { $($fields)* } }

            impl $(<$life>)? $message $(<$life>)? {
                /// Encodes the datagram as JSON.
                pub fn encode(&self) -> Vec<u8> {
                    self.encode_behind(Vec::with_capacity(MAX_DATAGRAM))
                }

                /// Encodes the datagram as JSON, appended to `before`.
                pub fn encode_behind(&self, before: Vec<u8>) -> Vec<u8> {
                    let mut out = Object::begin(before, Kind::$kind.name());
                    Group::write(self, &mut out);
                    out.end()
                }
            }
        )*
    };
}
