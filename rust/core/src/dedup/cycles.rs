//! Cycles of preferences: a over b, b over c, c over a. A preference lies on a cycle exactly if both its ends lie in one
//! strongly connected component. Knows only numbered nodes and directed edges.

/// A preference: `from` over `to`, with the rank of its score (0 is the highest).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arc {
    pub from: u32,
    pub to: u32,
    pub rank: u32,
}

/// The strongly connected component of each node (Tarjan, 1972), without recursion, so that no chain is too long.
pub(crate) fn components(nodes: usize, arcs: impl Iterator<Item = (u32, u32)> + Clone) -> Vec<u32> {
    let (starts, targets) = adjacency(nodes, arcs);
    let mut search = Tarjan::new(nodes);
    for root in 0..nodes as u32 {
        if search.index[root as usize] == UNSEEN {
            search.explore(root, &starts, &targets);
        }
    }
    search.component
}

const UNSEEN: u32 = u32::MAX;

struct Tarjan {
    index: Vec<u32>,
    low: Vec<u32>,
    component: Vec<u32>,
    open: Vec<u32>,
    clock: u32,
    found: u32,
}

impl Tarjan {
    fn new(nodes: usize) -> Self {
        let unseen = vec![UNSEEN; nodes];
        Self {
            index: unseen.clone(),
            low: unseen.clone(),
            component: unseen,
            open: Vec::new(),
            clock: 0,
            found: 0,
        }
    }

    fn explore(&mut self, root: u32, starts: &[usize], targets: &[u32]) {
        let mut path = vec![(root, starts[root as usize])];
        self.enter(root);
        while let Some((node, next)) = path.last_mut() {
            let node = *node;
            if *next < starts[node as usize + 1] {
                let target = targets[*next];
                *next += 1;
                if self.index[target as usize] == UNSEEN {
                    self.enter(target);
                    path.push((target, starts[target as usize]));
                } else if self.component[target as usize] == UNSEEN {
                    self.lower(node, self.index[target as usize]);
                }
            } else {
                path.pop();
                self.leave(node);
                if let Some(&(above, _)) = path.last() {
                    self.lower(above, self.low[node as usize]);
                }
            }
        }
    }

    fn enter(&mut self, node: u32) {
        self.index[node as usize] = self.clock;
        self.low[node as usize] = self.clock;
        self.clock += 1;
        self.open.push(node);
    }

    fn lower(&mut self, node: u32, to: u32) {
        let low = &mut self.low[node as usize];
        *low = (*low).min(to);
    }

    fn leave(&mut self, node: u32) {
        if self.low[node as usize] != self.index[node as usize] {
            return;
        }
        while let Some(member) = self.open.pop() {
            self.component[member as usize] = self.found;
            if member == node {
                break;
            }
        }
        self.found += 1;
    }
}

/// Targets of each node, in one list.
fn adjacency(nodes: usize, arcs: impl Iterator<Item = (u32, u32)> + Clone) -> (Vec<usize>, Vec<u32>) {
    let mut starts = vec![0; nodes + 1];
    for (from, _) in arcs.clone() {
        starts[from as usize + 1] += 1;
    }
    for node in 0..nodes {
        starts[node + 1] += starts[node];
    }
    let mut next = starts.clone();
    let mut targets = vec![0; starts[nodes]];
    for (from, to) in arcs {
        targets[next[from as usize]] = to;
        next[from as usize] += 1;
    }
    (starts, targets)
}

/// For each arc, whether it is the weakest (or one of the weakest) of some cycle.
///
/// Without those arcs no cycle is left, and each arc taken out is contradicted by others at least as strong. This is
/// what repeatedly taking the weakest arcs out of each component comes to. Found by halving the
/// ranks instead, in O(arcs * log ranks): an arc is out if it closes a cycle among arcs of its rank or better.
pub(crate) fn weakest(nodes: usize, arcs: &[Arc]) -> Vec<bool> {
    let ranks = arcs.iter().map(|arc| arc.rank + 1).max().unwrap_or(0);
    let mut out = vec![false; arcs.len()];
    let arcs = arcs.iter().copied().enumerate().collect();
    let mut tasks = vec![Task {
        arcs,
        nodes,
        low: 0,
        high: ranks,
    }];
    while let Some(task) = tasks.pop() {
        if task.low < task.high {
            tasks.extend(task.halves());
        } else {
            task.arcs.iter().for_each(|&(id, arc)| out[id] = arc.rank == task.low);
        }
    }
    out
}

/// Arcs (with their places in the input) whose first rank at which they lie on a cycle is in `low..=high`; the
/// number of ranks itself stands for never.
struct Task {
    arcs: Vec<(usize, Arc)>,
    nodes: usize,
    low: u32,
    high: u32,
}

impl Task {
    /// Splits the arcs by whether they lie on a cycle at the middle rank already. Empty halves are left out.
    fn halves(self) -> impl Iterator<Item = Self> {
        let middle = self.low + (self.high - self.low) / 2;
        let better = self.arcs.iter().filter(|(_, arc)| arc.rank <= middle);
        let component = components(self.nodes, better.map(|(_, arc)| (arc.from, arc.to)));
        let on_cycle = |arc: &Arc| arc.rank <= middle && component[arc.from as usize] == component[arc.to as usize];
        let (early, mut late): (Vec<_>, Vec<_>) = self.arcs.into_iter().partition(|(_, arc)| on_cycle(arc));
        for (_, arc) in &mut late {
            // What is connected by now stays so: later ranks see each component as one node.
            (arc.from, arc.to) = (component[arc.from as usize], component[arc.to as usize]);
        }
        [
            Self::new(early, self.low, middle),
            Self::new(late, middle + 1, self.high),
        ]
        .into_iter()
        .filter(|task| !task.arcs.is_empty())
    }

    /// Renumbers the nodes that the arcs touch from 0, so that a task costs only its own size.
    fn new(mut arcs: Vec<(usize, Arc)>, low: u32, high: u32) -> Self {
        let mut touched: Vec<u32> = arcs.iter().flat_map(|(_, arc)| [arc.from, arc.to]).collect();
        touched.sort_unstable();
        touched.dedup();
        let number = |node: u32| touched.partition_point(|&other| other < node) as u32;
        for (_, arc) in &mut arcs {
            (arc.from, arc.to) = (number(arc.from), number(arc.to));
        }
        Self {
            arcs,
            nodes: touched.len(),
            low,
            high,
        }
    }
}
