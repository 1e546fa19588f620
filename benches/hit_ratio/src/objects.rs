//! Sizes and fill costs of the objects. Fixed before anything was measured: three distributions, all reported.

/// Distribution of the bodies' sizes and of the time that the origin takes for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Each body has 1 KiB, and takes 50 ms: the hit ratio alone.
    Alike,
    /// Sizes and times have heavy tails, and do not depend on each other.
    Independent,
    /// The same sizes; what is larger takes longer.
    Proportional,
}

/// Body of one object.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// Bytes of the body.
    pub size: usize,
    /// Milliseconds that the origin takes on average.
    pub cost: f64,
}

impl Distribution {
    pub const ALL: [Self; 3] = [Self::Alike, Self::Independent, Self::Proportional];

    pub fn name(self) -> &'static str {
        match self {
            Self::Alike => "alike",
            Self::Independent => "independent",
            Self::Proportional => "proportional",
        }
    }

    /// Returns the object of a number. The same numbers, seed and distribution give the same object to every
    /// cache, whatever it has seen before.
    pub fn object(self, seed: u64, number: u32) -> Object {
        let mut random = Random::new(seed ^ (u64::from(number) << 20));
        // Median 4 KiB, mean 12 KiB, 1 % over 90 KiB; the default limit of a body is 1 MiB.
        let size = (4096.0 * (1.3 * random.normal()).exp()).clamp(200.0, 512.0 * 1024.0);
        // Median 40 ms, mean 80 ms, 1 % over 600 ms.
        let time = (40.0 * (1.2 * random.normal()).exp()).clamp(2.0, 5000.0);
        match self {
            Self::Alike => Object { size: 1024, cost: 50.0 },
            Self::Independent => Object { size: size as usize, cost: time },
            // 5 ms and 4 ms for each KiB, by a factor with a standard deviation of 0.5 in its logarithm.
            Self::Proportional => {
                let factor = (0.5 * random.normal()).exp();
                Object { size: size as usize, cost: (5.0 + size / 256.0) * factor }
            }
        }
    }
}

/// Returns the time that one fill takes, in milliseconds: a cache measures it once for each.
pub fn fill_time(object: Object, random: &mut Random) -> u64 {
    let noise = (0.3 * random.normal()).exp();
    (object.cost * noise).round().max(1.0) as u64
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to 1, neither included.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Returns a number of the standard normal distribution (Box, Muller 1958).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}
