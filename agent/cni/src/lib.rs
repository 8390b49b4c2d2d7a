//! What the agent tells the CNI plugin (NodeFile), which addresses it gave out, and the plugin itself.
