"""What all APIs share: objects and their names, errors, selectors, quantities, patches, schemas, tables.

Everything here is pure: no I/O, no event loop, and no clock but the one passed in.
"""
