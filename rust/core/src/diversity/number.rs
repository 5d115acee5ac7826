//! Numbers for 64-bit keys, by first appearance: what turns n-grams into places of arrays, without sorting.

/// Keys that a fresh table has room for; it grows with the keys that are really there.
const AT_FIRST: usize = 1 << 16;

/// A hash table from keys to 0, 1, 2, ... It keeps its memory when it is cleared.
#[derive(Default)]
pub(crate) struct Numbers {
    keys: Vec<u64>,
    /// A key's number plus 1, and 0 where there is none; the next free slot where that is taken. At most half are taken.
    slots: Vec<u32>,
}

impl Numbers {
    /// Forgets all keys. `most` is a guess how many will come.
    pub fn clear(&mut self, most: usize) {
        self.keys.clear();
        self.make_slots(most.min(AT_FIRST));
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of a key, a new one where it has none. Fewer than 2^32 - 1 keys may come.
    #[inline]
    pub fn number(&mut self, key: u64) -> u32 {
        if 2 * self.keys.len() >= self.slots.len() {
            self.grow();
        }
        match self.find(key) {
            Ok(number) => number,
            Err(slot) => {
                self.keys.push(key);
                self.slots[slot] = self.keys.len() as u32;
                self.keys.len() as u32 - 1
            }
        }
    }

    /// The number of a key that may have none.
    #[inline]
    pub fn get(&self, key: u64) -> Option<u32> {
        if self.keys.is_empty() {
            None
        } else {
            self.find(key).ok()
        }
    }

    /// The key's number, or the slot where it would be noted.
    #[inline]
    fn find(&self, key: u64) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = home(key) & mask;
        loop {
            match self.slots[slot] {
                0 => return Err(slot),
                taken if self.keys[taken as usize - 1] == key => return Ok(taken - 1),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        self.make_slots(2 * self.keys.len());
        for number in 0..self.keys.len() {
            if let Err(slot) = self.find(self.keys[number]) {
                self.slots[slot] = number as u32 + 1;
            }
        }
    }

    fn make_slots(&mut self, keys: usize) {
        self.slots.clear();
        self.slots.resize((2 * keys + 2).next_power_of_two(), 0);
    }
}

/// Where a key is looked for first. The upper half of the product depends on every bit of the key.
#[inline]
fn home(key: u64) -> usize {
    let product = u128::from(key ^ 0x2545_F491_4F6C_DD1D) * 0x9E37_79B9_7F4A_7C15;
    ((product >> 64) as u64 ^ product as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    #[test]
    fn keys_get_numbers_by_first_appearance_and_a_cleared_table_is_empty() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.get(7), None);
        for round in 0..2u64 {
            numbers.clear(1);
            let keys: Vec<u64> = (0..50_000)
                .map(|i: u64| (i % 20_000).wrapping_mul(3 + round) << 20)
                .collect();
            for (i, &key) in keys.iter().enumerate() {
                assert_eq!(numbers.number(key), i as u32 % 20_000);
            }
            assert_eq!(numbers.len(), 20_000);
            assert_eq!(numbers.get(keys[123]), Some(123));
            assert_eq!(numbers.get(1), None);
        }
    }
}
