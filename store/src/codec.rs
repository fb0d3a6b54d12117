// SPDX-License-Identifier: Apache-2.0
//! Reading and writing the primitive values of the format, strictly: there is one encoding of each value, and no other is accepted.

/// Bytes are not what the format says. Carries what was being read; the caller knows where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

type Result<T> = std::result::Result<T, Malformed>;

/// Takes values off the front of a byte slice. Never panics, never allocates by an unchecked length.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Fails unless every byte was read.
    pub fn finish(self, what: &'static str) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed(what)) }
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize, what: &'static str) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// Unsigned LEB128 in its shortest form.
    pub fn varint(&mut self, what: &'static str) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed(what));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(Malformed(what)) } else { Ok(value) };
            }
        }
        Err(Malformed(what))
    }

    /// A varint that is at most `max`.
    pub fn varint_max(&mut self, max: u64, what: &'static str) -> Result<u64> {
        let value = self.varint(what)?;
        if value <= max { Ok(value) } else { Err(Malformed(what)) }
    }

    /// A varint that is at most `max` and fits in memory.
    pub fn len(&mut self, max: usize, what: &'static str) -> Result<usize> {
        usize::try_from(self.varint_max(max as u64, what)?).map_err(|_| Malformed(what))
    }

    /// A varint that is at most `u32::MAX`.
    pub fn u32(&mut self, what: &'static str) -> Result<u32> {
        u32::try_from(self.varint(what)?).map_err(|_| Malformed(what))
    }

    /// A signed integer as a zigzag varint.
    pub fn zigzag(&mut self, what: &'static str) -> Result<i64> {
        let value = self.varint(what)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A length of at most `max`, and so many bytes.
    pub fn prefixed(&mut self, max: usize, what: &'static str) -> Result<&'a [u8]> {
        let len = self.len(max, what)?;
        self.bytes(len, what)
    }
}

/// Appends values to a buffer.
pub trait Write {
    /// One byte.
    fn put_u8(&mut self, value: u8);
    /// Bytes as they are.
    fn put_bytes(&mut self, bytes: &[u8]);

    /// Unsigned LEB128.
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.put_u8(value.to_le_bytes()[0]);
    }

    /// A signed integer as a zigzag varint.
    fn put_zigzag(&mut self, value: i64) {
        self.put_varint(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// A length and so many bytes.
    fn put_prefixed(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put_bytes(bytes);
    }
}

impl Write for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            bytes.put_zigzag(signed);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint("value"), Ok(value));
            prop_assert_eq!(reader.zigzag("value"), Ok(signed));
            prop_assert_eq!(reader.finish("end"), Ok(()));
        }

        #[test]
        fn what_is_accepted_is_what_would_be_written(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.varint("value") {
                let mut again = Vec::new();
                again.put_varint(value);
                prop_assert_eq!(&bytes[..bytes.len() - reader.remaining()], &again[..]);
            }
        }
    }

    #[test]
    fn long_forms_and_overflows_are_refused() {
        for bytes in [&[0x80, 0x00][..], &[0xff; 10], &[0xff; 11], &[0x80], &[]] {
            assert!(Reader::new(bytes).varint("value").is_err(), "{bytes:x?}");
        }
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&largest).varint("value"), Ok(u64::MAX));
        assert!(Reader::new(&[5, 1, 2]).prefixed(10, "bytes").is_err());
        assert!(Reader::new(&[2, 1, 2]).prefixed(1, "bytes").is_err());
    }
}
