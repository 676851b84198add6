//! Where candidates stand: one categorical dimension for each name in their params, and one of their own.

use std::collections::BTreeMap;

/// The places of all arms. Index 0 of each dimension is the baseline's choice.
///
/// Two arms never share a place: those whose params say nothing new (none at all, or another's) differ in the last
/// dimension, "candidate". So only registered arms have a place, and every arm can be told from every other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Space {
    /// Choices in each dimension.
    sizes: Vec<u32>,
    /// Arm by arm, dimension by dimension.
    places: Vec<u32>,
}

impl Space {
    /// The space spanned by the arms' params, in order of registration. Params that leave a dimension out stand at 0 in it.
    #[must_use]
    pub fn new<'p>(params: impl Iterator<Item = &'p BTreeMap<String, u32>> + Clone) -> Self {
        let mut choices: BTreeMap<&str, BTreeMap<u32, u32>> = BTreeMap::new();
        for (name, &choice) in params.clone().flatten() {
            choices.entry(name).or_insert_with(|| BTreeMap::from([(0, 0)])).insert(choice, 0);
        }
        for dimension in choices.values_mut() {
            (0..).zip(dimension.values_mut()).for_each(|(index, slot)| *slot = index);
        }
        let mut space = Self::default();
        let mut taken: BTreeMap<Vec<u32>, ()> = BTreeMap::new();
        let mut own = 0;
        for arm in params {
            let named = |(name, dimension): (&&str, &BTreeMap<u32, u32>)| {
                arm.get(*name).and_then(|choice| dimension.get(choice)).copied().unwrap_or(0)
            };
            let place: Vec<u32> = choices.iter().map(named).collect();
            space.places.extend(&place);
            let distinct = if taken.insert(place, ()).is_some() {
                own += 1;
                own
            } else {
                0
            };
            space.places.push(distinct);
        }
        let dimension_sizes =
            choices.values().map(|dimension| u32::try_from(dimension.len()).unwrap_or(u32::MAX));
        space.sizes = dimension_sizes.chain([own + 1]).collect();
        space
    }

    /// Number of dimensions.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.sizes.len()
    }

    /// Choices in each dimension.
    #[must_use]
    pub fn sizes(&self) -> &[u32] {
        &self.sizes
    }

    /// An arm's choice in each dimension.
    #[must_use]
    pub fn place(&self, arm: usize) -> &[u32] {
        let width = self.sizes.len();
        &self.places[arm * width..(arm + 1) * width]
    }
}
