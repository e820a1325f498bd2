//! Who is whose child: a wide tree, a long chain, and some whose parents have gone.

/// From this node on, each is the child of the one before it: a chain as deep as it is long.
const CHAIN: usize = 80;

/// The node that forks a node.
#[must_use]
pub fn parent(node: usize) -> usize {
    match node {
        CHAIN => 0,
        deep if deep > CHAIN => deep - 1,
        wide => wide.saturating_sub(1) / 3,
    }
}

/// The nodes that a node forks, in order.
pub fn children(node: usize, nodes: usize) -> impl Iterator<Item = usize> {
    (1..nodes).filter(move |child| parent(*child) == node)
}

/// Whether the process that forked a node is gone: it was the leader of a session that the node is alone in now.
#[must_use]
pub fn orphaned(node: usize) -> bool {
    node % 40 == 29
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_forked_once() {
        let mut forked: Vec<usize> = (0..100).flat_map(|node| children(node, 100)).collect();
        forked.sort_unstable();
        assert_eq!(forked, (1..100).collect::<Vec<_>>());
    }

    #[test]
    fn the_chain_is_twenty_deep() {
        let mut depth = 0;
        let mut node = 99;
        while node != 0 {
            node = parent(node);
            depth += 1;
        }
        assert_eq!(depth, 20);
    }
}
