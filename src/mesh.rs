//! The mesh: who hears of whom in one room of one window.
//!
//! In a small room everyone hears of everyone. In a larger one each member is told k others, and
//! two things must hold: if A is told B, B is told A, because a path through two NATs opens only
//! when both send; and nobody is cut off. A ring on which everyone is linked to both sides at the
//! same distances does both:
//!
//! ```text
//!        0 ─── 1             distances 1 and 3, seen from 0:
//!      9         2              0 + 1 = 1      0 − 1 = 9
//!     8           3             0 + 3 = 3      0 − 3 = 7
//!      7         4           so k = 4, and 1, 3, 7, 9 count 0 among
//!        6 ─── 5             their own four in turn
//! ```
//!
//! Members are numbers here: their places in the roster, which is ordered by address.

use std::collections::BTreeSet;

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// How many peers one member is told at most: even, at least 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListCap(usize);

impl ListCap {
    /// A cap of `peers`, rounded down to an even number, and 2 if that is less.
    pub fn new(peers: usize) -> ListCap {
        ListCap((peers & !1).max(2))
    }

    /// Peers.
    pub fn peers(self) -> usize {
        self.0
    }
}

impl Default for ListCap {
    fn default() -> ListCap {
        ListCap(200)
    }
}

/// Who hears of whom: the same for all time, given the same members, cap and seed.
#[derive(Clone, Debug)]
pub struct Mesh {
    members: usize,
    /// `None` where everyone hears of everyone.
    ring: Option<Ring>,
}

impl Mesh {
    /// The mesh of a room of `members`, which is less than 2³².
    ///
    /// The seed must be secret until the window opens: whoever knows it can choose its address so
    /// as to sit beside a victim, or all around it.
    pub fn new(members: usize, cap: ListCap, seed: [u8; 32]) -> Mesh {
        let full = members <= cap.0 + 1;
        Mesh { members, ring: (!full).then(|| Ring::new(members, cap, seed)) }
    }

    /// Whether everyone hears of everyone: a room of up to the cap and one.
    pub fn is_full(&self) -> bool {
        self.ring.is_none()
    }

    /// Whom `member` hears of, ascending: everyone and itself in a full mesh, else as many others
    /// as the cap.
    ///
    /// # Panics
    ///
    /// If there is no such member.
    pub fn peers_of(&self, member: usize) -> Vec<usize> {
        assert!(member < self.members, "member {member} of {}", self.members);
        match &self.ring {
            None => (0..self.members).collect(),
            Some(ring) => ring.peers_of(member),
        }
    }

    /// Whether `member` hears of `other`, without making the list.
    ///
    /// # Panics
    ///
    /// If there is no such member, or no such other.
    pub fn hears_of(&self, member: usize, other: usize) -> bool {
        assert!(member.max(other) < self.members, "{member}, {other} of {}", self.members);
        self.ring.as_ref().is_none_or(|ring| ring.links(member, other))
    }
}

/// A circulant graph: members on a ring, each linked to both sides at every one of the distances.
#[derive(Clone, Debug)]
struct Ring {
    /// Who sits at a place.
    member_at: Vec<u32>,
    /// Where a member sits: the inverse.
    place_of: Vec<u32>,
    /// Ascending; cap / 2 of them, 1 the first.
    distances: Vec<u32>,
}

impl Ring {
    fn new(members: usize, cap: ListCap, seed: [u8; 32]) -> Ring {
        let members = u32::try_from(members).expect("a room holds less than 2^32 members");
        let mut rng = ChaCha8Rng::from_seed(seed);
        let member_at = shuffled(&mut rng, members);
        let mut place_of = vec![0; member_at.len()];
        for (place, &member) in (0..).zip(&member_at) {
            place_of[member as usize] = place;
        }
        Ring { member_at, place_of, distances: distances(&mut rng, members, cap) }
    }

    fn peers_of(&self, member: usize) -> Vec<usize> {
        let (place, size) = (self.place_of[member] as usize, self.member_at.len());
        let at = |place: usize| self.member_at[if place < size { place } else { place - size }];
        let mut peers: Vec<u32> = Vec::with_capacity(2 * self.distances.len());
        for &distance in &self.distances {
            let distance = distance as usize;
            peers.extend([at(place + distance), at(place + size - distance)]);
        }
        peers.sort_unstable();
        peers.into_iter().map(|peer| peer as usize).collect()
    }

    fn links(&self, member: usize, other: usize) -> bool {
        let one_way = self.place_of[member].abs_diff(self.place_of[other]);
        let other_way = self.member_at.len() as u32 - one_way;
        self.distances.binary_search(&one_way.min(other_way)).is_ok()
    }
}

/// 0 to `count` − 1 in an order drawn by `rng`: Fisher and Yates.
///
/// Written out, as are the draws below, because a restart with a newer rand has to give the same
/// lists: rand keeps the stream of a named generator from version to version, not what its
/// shuffles make of it.
fn shuffled(rng: &mut ChaCha8Rng, count: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last as usize, below(rng, last + 1) as usize);
    }
    order
}

/// The distances of a ring of n `members` and k peers each: 1, which makes the ring connected, and
/// k/2 − 1 others.
///
/// They are less than n/2, so that the two sides of a distance are two members, and no two
/// distances meet: k/2 distances are k peers. There are ⌈n/2⌉ − 2 whole numbers from 2 to below
/// n/2, and a ring has n ≥ k + 2, hence at least k/2 − 1 of them: just enough.
fn distances(rng: &mut ChaCha8Rng, members: u32, cap: ListCap) -> Vec<u32> {
    let others = cap.0 as u32 / 2 - 1;
    let end = members.div_ceil(2);
    let mut drawn = BTreeSet::from([1]);
    // Floyd's sampling: one draw for each, every subset as likely as any other.
    for highest in end - others..end {
        let distance = 2 + below(rng, highest - 1);
        drawn.insert(if drawn.contains(&distance) { highest } else { distance });
    }
    drawn.into_iter().collect()
}

/// A number from 0 to `bound` − 1, each as likely as any other.
fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    // A whole multiple of the bound: what lies above would favour the low numbers.
    let fair = u32::MAX - u32::MAX % bound;
    loop {
        let drawn = rng.next_u32();
        if drawn < fair {
            return drawn % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: [u8; 32] = [7; 32];

    fn mesh(members: usize, cap: usize) -> Mesh {
        Mesh::new(members, ListCap::new(cap), SEED)
    }

    fn lists(mesh: &Mesh) -> Vec<Vec<usize>> {
        (0..mesh.members).map(|member| mesh.peers_of(member)).collect()
    }

    fn reached_from_0(lists: &[Vec<usize>]) -> usize {
        let (mut reached, mut next) = (BTreeSet::from([0]), vec![0]);
        while let Some(member) = next.pop() {
            next.extend(lists[member].iter().filter(|&&peer| reached.insert(peer)));
        }
        reached.len()
    }

    /// All that a larger room promises.
    fn check_ring(mesh: &Mesh, cap: usize) {
        let lists = lists(mesh);
        assert!(!mesh.is_full());
        for (member, peers) in lists.iter().enumerate() {
            assert_eq!(peers.len(), cap);
            assert!(peers.is_sorted_by(|a, b| a < b), "distinct and ascending: {peers:?}");
            assert!(!peers.contains(&member));
            assert!(peers.iter().all(|&peer| lists[peer].contains(&member)));
        }
        assert_eq!(reached_from_0(&lists), lists.len());
    }

    #[test]
    fn a_cap_is_even_and_at_least_2() {
        let peers = |peers| ListCap::new(peers).peers();
        assert_eq!([0, 1, 2, 3, 4, 5, 201].map(peers), [2, 2, 2, 2, 4, 4, 200]);
        assert_eq!(peers(usize::MAX), usize::MAX - 1);
        assert_eq!(ListCap::default().peers(), 200);
    }

    #[test]
    fn up_to_the_cap_and_one_everyone_hears_of_everyone() {
        for members in [0, 1, 2, 7, 8, 9] {
            let mesh = mesh(members, 8);
            assert!(mesh.is_full());
            for peers in lists(&mesh) {
                assert_eq!(peers, (0..members).collect::<Vec<_>>());
            }
        }
        assert!(mesh(1_000_000, usize::MAX).is_full());
    }

    #[test]
    fn the_smallest_rings_have_just_enough_distances() {
        for cap in (2..=40).step_by(2) {
            for members in cap + 2..cap + 6 {
                check_ring(&mesh(members, cap), cap);
            }
        }
    }

    #[test]
    fn with_one_distance_it_is_a_plain_ring() {
        let mesh = mesh(50, 2);
        check_ring(&mesh, 2);
        assert_eq!(mesh.ring.unwrap().distances, [1]);
    }

    #[test]
    fn in_a_full_mesh_one_hears_of_oneself_and_in_a_ring_not() {
        assert!(mesh(9, 8).hears_of(3, 3));
        assert!(!mesh(10, 8).hears_of(3, 3));
    }

    /// Lists have to survive a restart, with a newer hit7 too.
    #[test]
    fn the_same_seed_gives_these_lists_for_ever() {
        const ORDER: [u32; 20] =
            [17, 16, 9, 0, 3, 2, 4, 10, 15, 6, 12, 13, 14, 1, 11, 7, 18, 19, 5, 8];
        let ring = mesh(20, 6).ring.unwrap();
        assert_eq!(ring.member_at, ORDER);
        assert_eq!(ring.distances, [1, 2, 6]);
        assert_eq!(ring.peers_of(0), [2, 3, 6, 9, 16, 19]);
    }

    #[test]
    fn every_number_below_the_bound_is_drawn_about_as_often() {
        let mut rng = ChaCha8Rng::from_seed(SEED);
        let mut drawn = [0; 6];
        (0..6000).for_each(|_| drawn[below(&mut rng, 6) as usize] += 1);
        assert!(drawn.iter().all(|times| (850..1150).contains(times)), "{drawn:?}");
        assert_eq!(below(&mut rng, 1), 0);
    }

    #[test]
    fn every_distance_is_drawn_about_as_often() {
        let mut drawn = [0; 10];
        let mut rng = ChaCha8Rng::from_seed(SEED);
        for _ in 0..4000 {
            let distances = distances(&mut rng, 20, ListCap::new(10));
            distances.iter().for_each(|&distance| drawn[distance as usize] += 1);
        }
        assert_eq!(drawn[..2], [0, 4000]);
        assert!(drawn[2..].iter().all(|times| (1850..2150).contains(times)), "{drawn:?}");
    }

    #[test]
    fn a_million_members_are_cheap() {
        let mesh = mesh(1_000_000, 200);
        let peers = mesh.peers_of(999_999);
        assert_eq!(peers.len(), 200);
        assert!(peers.iter().all(|&peer| mesh.peers_of(peer).contains(&999_999)));
    }

    #[test]
    #[should_panic(expected = "member 3 of 3")]
    fn nobody_asks_for_a_stranger() {
        mesh(3, 8).peers_of(3);
    }

    proptest! {
        #[test]
        fn a_ring_is_mutual_regular_and_connected(half in 1usize..20, more in 0usize..100, seed: [u8; 32]) {
            let cap = half * 2;
            check_ring(&Mesh::new(cap + 2 + more, ListCap::new(cap), seed), cap);
        }

        #[test]
        fn hearing_of_and_being_listed_are_one(members in 1usize..60, cap in 0usize..40, seed: [u8; 32]) {
            let mesh = Mesh::new(members, ListCap::new(cap), seed);
            for (member, peers) in lists(&mesh).iter().enumerate() {
                for other in 0..members {
                    prop_assert_eq!(mesh.hears_of(member, other), peers.contains(&other));
                }
            }
        }

        #[test]
        fn the_seed_alone_decides(seed: [u8; 32], other: [u8; 32]) {
            let lists = |seed| lists(&Mesh::new(100, ListCap::new(10), seed));
            prop_assert_eq!(lists(seed), lists(seed));
            prop_assert!(seed == other || lists(seed) != lists(other));
        }
    }
}
