"""Attribution methods: each registered function says how much every pixel or segment counts for an output."""
