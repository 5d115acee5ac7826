//! Made-up token lists that are the same on every machine: lengths of answers, and one row in five an edited copy.

#![allow(missing_docs)]

pub struct Texts {
    pub ids: Vec<u32>,
    pub offsets: Vec<i64>,
}

pub fn texts(rows: usize) -> Texts {
    let (mut state, mut made) = (
        7,
        Texts {
            ids: vec![],
            offsets: vec![0],
        },
    );
    let mut below = move |most: u64| {
        // A linear congruential generator; the high bits are good enough for data.
        state = u64::wrapping_add(
            u64::wrapping_mul(state, 6_364_136_223_846_793_005),
            1_442_695_040_888_963_407,
        );
        (state >> 33) % most
    };
    for row in 0..rows {
        let start = made.ids.len();
        if row > 0 && below(5) == 0 {
            let other = below(row as u64) as usize;
            made.ids
                .extend_from_within(made.offsets[other] as usize..made.offsets[other + 1] as usize);
            let length = made.ids.len() - start;
            for _ in 0..below(4) {
                made.ids[start + below(length as u64) as usize] = below(32_000) as u32;
            }
        } else {
            let length = 20 + below(500);
            made.ids.extend((0..length).map(|_| below(32_000) as u32));
        }
        made.offsets.push(made.ids.len() as i64);
    }
    made
}
