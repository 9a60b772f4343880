"""CRI v1 on the wire: its messages, the methods of its two services, and how they become what `cri.api` has."""
