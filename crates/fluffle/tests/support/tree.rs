//! Finds nodes in a service's tree.

use fluffle::supervise::NodeSnapshot;

/// The node at this path below the root.
pub fn node<'a>(tree: &'a NodeSnapshot, path: &[&str]) -> &'a NodeSnapshot {
    let below = |tree: &'a NodeSnapshot, id: &&str| tree.children.iter().find(|child| *child.id == **id).unwrap();
    path.iter().fold(tree, below)
}

/// The ids of the children of the node at this path below the root.
pub fn children(tree: &NodeSnapshot, path: &[&str]) -> Vec<String> {
    node(tree, path).children.iter().map(|child| child.id.to_string()).collect()
}
