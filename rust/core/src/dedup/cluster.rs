//! From links to clusters: union-find rooted at the smallest member, or stars around the preferred members.

use std::cmp::Ordering;

use super::exact::NONE;
use super::{Edge, Keep, Link};
use crate::ragged::Texts;

/// Disjoint sets whose root is always their smallest member, whatever the order of the unions.
#[derive(Clone, Debug)]
pub(crate) struct UnionFind(Vec<u32>);

impl UnionFind {
    pub fn new(size: usize) -> Self {
        Self((0..size as u32).collect())
    }

    /// Room for more members, each alone.
    pub fn grow(&mut self, size: usize) {
        let old = self.0.len();
        self.0.reserve_exact(size - old);
        self.0.extend(old as u32..size as u32);
    }

    /// Bytes of memory that are held.
    pub fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<u32>()
    }

    /// The root of a member, without changing anything, so that threads can ask at once.
    pub fn root(&self, mut member: u32) -> u32 {
        while self.0[member as usize] != member {
            member = self.0[member as usize];
        }
        member
    }

    /// Joins two sets; false where they were one already.
    pub fn join(&mut self, a: u32, b: u32) -> bool {
        let (a, b) = (self.shorten(a), self.shorten(b));
        self.0[a.max(b) as usize] = a.min(b);
        a != b
    }

    fn shorten(&mut self, mut member: u32) -> u32 {
        while self.0[member as usize] != member {
            let above = self.0[self.0[member as usize] as usize];
            self.0[member as usize] = above;
            member = above;
        }
        member
    }

    /// The root of every member.
    pub fn roots(mut self) -> Vec<u32> {
        // Parents are never larger than their children, so one pass in ascending order settles all.
        for member in 0..self.0.len() {
            self.0[member] = self.0[self.0[member] as usize];
        }
        self.0
    }
}

/// How much each row is to be preferred.
pub(crate) struct Preference<'a> {
    keep: Keep<'a>,
    texts: &'a [&'a dyn Texts],
}

impl<'a> Preference<'a> {
    /// `texts`: the columns whose tokens make a row long.
    pub fn new(keep: Keep<'a>, texts: &'a [&'a dyn Texts]) -> Self {
        Self { keep, texts }
    }

    /// Larger is better.
    fn of(&self, row: u32) -> f64 {
        match self.keep {
            Keep::First => 0.0,
            Keep::Longest => self.texts.iter().map(|texts| texts.length(row as usize) as f64).sum(),
            // Adding 0.0 turns -0.0 into 0.0, which a total order would tell apart.
            Keep::Score(scores) => scores[row as usize] + 0.0,
        }
    }

    /// Which of two rows is preferred: `Less` where it is the first. The smaller row wins a tie.
    pub fn order(&self, a: u32, b: u32) -> Ordering {
        match self.keep {
            Keep::First => a.cmp(&b),
            Keep::Longest | Keep::Score(_) => self.of(b).total_cmp(&self.of(a)).then(a.cmp(&b)),
        }
    }

    /// The preferred one of two rows, of which the first may be [`NONE`].
    pub fn better(&self, best: u32, row: u32) -> u32 {
        if best == NONE || self.order(row, best).is_lt() {
            row
        } else {
            best
        }
    }
}

/// For each node its cluster (any label), and the links that hold the clusters together.
pub(crate) struct Clusters {
    pub of_node: Vec<u32>,
    pub edges: Vec<Edge>,
}

/// Groups nodes by the links between them. `best[node]` is the preferred row of the node.
pub(crate) fn cluster(link: Link, best: &[u32], preference: &Preference<'_>, edges: Vec<Edge>) -> Clusters {
    match link {
        Link::Component => component(best.len(), edges),
        Link::Star => star(best, preference, &edges),
    }
}

/// Connected components, with the first links in order that form a spanning forest.
fn component(nodes: usize, mut edges: Vec<Edge>) -> Clusters {
    let mut sets = UnionFind::new(nodes);
    edges.retain(|edge| sets.join(edge.i, edge.j));
    Clusters {
        of_node: sets.roots(),
        edges,
    }
}

/// The most preferred free node becomes a centre and takes its free neighbours, until none is free.
///
/// So each member is directly linked to its centre, and no chain can swallow unlike texts.
fn star(best: &[u32], preference: &Preference<'_>, edges: &[Edge]) -> Clusters {
    const FREE: u32 = u32::MAX;
    let around = Neighbours::new(best.len(), edges);
    let mut order: Vec<u32> = (0..best.len() as u32).collect();
    order.sort_unstable_by(|&a, &b| preference.order(best[a as usize], best[b as usize]));
    let mut of_node = vec![FREE; best.len()];
    let mut spokes = Vec::new();
    for centre in order {
        if of_node[centre as usize] != FREE {
            continue;
        }
        of_node[centre as usize] = centre;
        for &(node, jaccard) in around.of(centre) {
            if of_node[node as usize] == FREE {
                of_node[node as usize] = centre;
                spokes.push(Edge {
                    i: centre.min(node),
                    j: centre.max(node),
                    jaccard,
                });
            }
        }
    }
    spokes.sort_unstable_by_key(|edge| (edge.i, edge.j));
    Clusters { of_node, edges: spokes }
}

/// The links of a graph, by node, ascending.
#[derive(Debug)]
pub(crate) struct Neighbours {
    starts: Vec<usize>,
    links: Vec<(u32, f64)>,
}

impl Neighbours {
    /// Takes each edge in both directions.
    pub fn new(nodes: usize, edges: &[Edge]) -> Self {
        let mut starts = vec![0; nodes + 1];
        for edge in edges {
            starts[edge.i as usize + 1] += 1;
            starts[edge.j as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut links = vec![(0, 0.0); edges.len() * 2];
        for edge in edges {
            for (from, to) in [(edge.i, edge.j), (edge.j, edge.i)] {
                links[next[from as usize]] = (to, edge.jaccard);
                next[from as usize] += 1;
            }
        }
        for node in 0..nodes {
            links[starts[node]..starts[node + 1]].sort_unstable_by_key(|link| link.0);
        }
        Self { starts, links }
    }

    /// The neighbours of a node with their similarity.
    pub fn of(&self, node: u32) -> &[(u32, f64)] {
        &self.links[self.starts[node as usize]..self.starts[node as usize + 1]]
    }

    /// Similarity of two nodes where they are linked or the same.
    pub fn between(&self, a: u32, b: u32) -> Option<f64> {
        if a == b {
            return Some(1.0);
        }
        let links = self.of(a);
        links.binary_search_by_key(&b, |link| link.0).ok().map(|at| links[at].1)
    }
}
