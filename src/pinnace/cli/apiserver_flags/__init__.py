"""The flags of kube-apiserver by subject, as its own help parts them: a decorator each, and what the flags say.

`read` of a section turns the flags it declares into arguments of `pinnace.apiserver.options.Options`; what a flag
cannot be ends the program with one line that names it.
"""
