//! The macros behind the table of datagrams in `proto.rs`: a message is stated once, and from that
//! come its struct, its encoder and its decoder, and its place in `Kind` and `Datagram`.
//!
//! A field is `name: Type = Key`, in the order in which it is written; `or default` makes a field
//! that may be left out and is then taken for the default. A field without a key is a group of
//! fields that stand between the others. How a type is read and written is in `value.rs`.

/// Structs whose fields are those of a datagram, or a part of them.
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

/// The types of datagrams: first those of requests, whose fields are those of `Request` and `Auth`,
/// then the others, each with its struct.
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
            /// Whether it is the type of a [`Request`], which a registry answers.
            pub fn is_request(self) -> bool {
                matches!(self, $(Kind::$request)|*)
            }
        }

        /// Any datagram, read whole.
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

            /// The bytes of the datagram.
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
                /// The bytes of the datagram.
                pub fn encode(&self) -> Vec<u8> {
                    self.encode_behind(Vec::with_capacity(MAX_DATAGRAM))
                }

                /// The bytes of the datagram, behind what `before` holds.
                pub fn encode_behind(&self, before: Vec<u8>) -> Vec<u8> {
                    let mut out = Object::begin(before, Kind::$kind.name());
                    Group::write(self, &mut out);
                    out.end()
                }
            }
        )*
    };
}
