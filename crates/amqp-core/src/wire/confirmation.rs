//! The broker's answer to publishes in confirm mode, basic.ack or basic.nack, decoded without a table.

use crate::wire::spec::{Arguments, Method, MethodId, basic};

/// basic.ack or basic.nack from the broker, in confirm mode: pika's `ack_nack_callback` is given these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The number of the publish, counted from 1 after confirm.select.
    pub delivery_tag: u64,
    /// Whether all earlier ones are meant as well.
    pub multiple: bool,
    /// Whether the broker took responsibility; otherwise it could not.
    pub ack: bool,
}

impl Confirmation {
    /// Decodes a method frame's payload; `None` if it is no confirm.
    pub(crate) fn get(payload: &[u8]) -> Option<Self> {
        let (&[0, 60, 0, method, t0, t1, t2, t3, t4, t5, t6, t7], &[bits]) = payload.split_first_chunk::<12>()? else {
            return None;
        };
        let delivery_tag = u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
        match method {
            80 | 120 => Some(Self { delivery_tag, multiple: bits & 1 != 0, ack: method == 80 }),
            _ => None,
        }
    }

    /// Which method it is.
    pub(crate) fn id(self) -> MethodId {
        if self.ack { basic::Ack::ID } else { basic::Nack::ID }
    }

    /// The same as a method.
    pub(crate) fn method(self) -> Method {
        let Self { delivery_tag, multiple, ack } = self;
        if ack {
            basic::Ack { delivery_tag, multiple }.into()
        } else {
            basic::Nack { delivery_tag, multiple, requeue: false }.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirm_is_known_by_its_octets() {
        for (ack, multiple) in [(true, false), (true, true), (false, true)] {
            let confirmation = Confirmation { delivery_tag: 0x0102_0304_0506_0708, multiple, ack };
            let mut payload = vec![];
            confirmation.method().put(&mut payload).unwrap();
            assert_eq!(Confirmation::get(&payload), Some(confirmation));
            assert_eq!(Confirmation::get(&payload[..12]), None);
        }
        let mut payload = vec![];
        Method::from(basic::Reject { delivery_tag: 1, requeue: true }).put(&mut payload).unwrap();
        assert_eq!(Confirmation::get(&payload), None);
    }
}
