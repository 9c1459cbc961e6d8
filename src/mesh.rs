//! The mesh: whose addresses each member of a room is sent when their window opens.
//!
//! In a small room each member's list has everyone. In a larger one it has k others, and two things
//! must hold: if B is on A's list, A is on B's, because a path through two NATs opens only when
//! both send; and the mesh is connected. A ring on which every member is linked to both sides at
//! the same distances has both properties:
//!
//! ```text
//!        0 ─── 1             distances 1 and 3, seen from 0:
//!      9         2              0 + 1 = 1      0 − 1 = 9
//!     8           3             0 + 3 = 3      0 − 3 = 7
//!      7         4           so k = 4; and 0 is one of the four
//!        6 ─── 5             of each of 1, 3, 7 and 9
//! ```
//!
//! A member is a number here: its place in the roster, which is ordered by address.

use std::collections::BTreeSet;

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};

/// The most peers on one member's list: even, at least 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListCap(usize);

impl ListCap {
    /// Returns a cap of `peers`, rounded down to an even number, and 2 if that is less.
    pub fn new(peers: usize) -> ListCap {
        ListCap((peers & !1).max(2))
    }

    /// Returns the cap as a number of peers.
    pub fn peers(self) -> usize {
        self.0
    }
}

impl Default for ListCap {
    fn default() -> ListCap {
        ListCap(200)
    }
}

/// Which members are on which other members' lists: decided by the number of members, the cap and
/// the seed alone.
#[derive(Clone, Debug)]
pub struct Mesh {
    members: usize,
    /// The links of a large room; `None` where everyone is on every list.
    ring: Option<Ring>,
}

impl Mesh {
    /// Builds the mesh of a room of `members`, which are fewer than 2³².
    ///
    /// The seed must be secret until the window opens: an attacker who knows it can choose its
    /// address so as to sit beside a victim, or all around it.
    pub fn new(members: usize, cap: ListCap, seed: [u8; 32]) -> Mesh {
        let full = members <= cap.0 + 1;
        Mesh { members, ring: (!full).then(|| Ring::new(members, cap, seed)) }
    }

    /// Returns whether everyone is on every list: up to one member more than the cap.
    pub fn is_full(&self) -> bool {
        self.ring.is_none()
    }

    /// Returns the members on the list of `member`, ascending: everyone and itself in a full mesh,
    /// else as many others as the cap.
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
}

/// A circulant graph: members on a ring, each linked to the members at each distance on both sides.
#[derive(Clone, Debug)]
struct Ring {
    /// The member at each place of the ring.
    member_at: Vec<u32>,
    /// The place of each member: the inverse of `member_at`.
    place_of: Vec<u32>,
    /// The cap / 2 distances, ascending; the first is 1.
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
}

/// Returns the numbers from 0 to `count` − 1 in an order drawn by `rng` (Fisher and Yates).
///
/// Written out, as are the draws below, because a restart with a newer version of rand has to give
/// the same lists: rand keeps the stream of a named generator, not the results of its shuffles.
fn shuffled(rng: &mut ChaCha8Rng, count: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last as usize, random_below(rng, last + 1) as usize);
    }
    order
}

/// Draws the distances of a ring of n `members` and k peers each: 1, which makes the ring
/// connected, and k/2 − 1 others.
///
/// All distances are less than n/2, so that one leads to two different members, and no two lead to
/// the same one: k/2 distances are k peers. There are ⌈n/2⌉ − 2 whole numbers from 2 to below n/2,
/// and a ring has n ≥ k + 2, hence at least k/2 − 1 of them: just enough.
fn distances(rng: &mut ChaCha8Rng, members: u32, cap: ListCap) -> Vec<u32> {
    let others = cap.0 as u32 / 2 - 1;
    let end = members.div_ceil(2);
    let mut drawn = BTreeSet::from([1]);
    // Floyd's sampling: one draw for each, and every subset is equally likely.
    for highest in end - others..end {
        let distance = 2 + random_below(rng, highest - 1);
        drawn.insert(if drawn.contains(&distance) { highest } else { distance });
    }
    drawn.into_iter().collect()
}

/// Draws a number from 0 to `bound` − 1, all equally likely.
fn random_below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    // A multiple of the bound: draws above it would make low numbers more likely.
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

    /// Checks that the lists of a room larger than the cap and one are full, mutual and connected.
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
    fn a_cap_is_even_and_at_least_two() {
        let peers = |peers| ListCap::new(peers).peers();
        assert_eq!([0, 1, 2, 3, 4, 5, 201].map(peers), [2, 2, 2, 2, 4, 4, 200]);
        assert_eq!(peers(usize::MAX), usize::MAX - 1);
        assert_eq!(ListCap::default().peers(), 200);
    }

    #[test]
    fn up_to_the_cap_and_one_everyone_is_told_of_everyone() {
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
    fn a_cap_of_two_gives_a_plain_ring() {
        let mesh = mesh(50, 2);
        check_ring(&mesh, 2);
        assert_eq!(mesh.ring.unwrap().distances, [1]);
    }

    /// A restart, with a newer hit7 too, has to give the same lists.
    #[test]
    fn the_lists_of_a_seed_never_change() {
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
        (0..6000).for_each(|_| drawn[random_below(&mut rng, 6) as usize] += 1);
        assert!(drawn.iter().all(|times| (850..1150).contains(times)), "{drawn:?}");
        assert_eq!(random_below(&mut rng, 1), 0);
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
    fn peers_of_an_unknown_member_panics() {
        mesh(3, 8).peers_of(3);
    }

    proptest! {
        #[test]
        fn a_ring_is_mutual_regular_and_connected(half in 1usize..20, more in 0usize..100, seed: [u8; 32]) {
            let cap = half * 2;
            check_ring(&Mesh::new(cap + 2 + more, ListCap::new(cap), seed), cap);
        }

        #[test]
        fn the_lists_depend_on_the_seed_alone(seed: [u8; 32], other: [u8; 32]) {
            let lists = |seed| lists(&Mesh::new(100, ListCap::new(10), seed));
            prop_assert_eq!(lists(seed), lists(seed));
            prop_assert!(seed == other || lists(seed) != lists(other));
        }
    }
}
