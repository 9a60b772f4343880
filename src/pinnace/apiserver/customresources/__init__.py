"""Custom resources: definitions watched, their kinds served, their objects kept, converted and cleaned up."""
