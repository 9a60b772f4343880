"""CEL, the Common Expression Language, as Kubernetes speaks it: parsed, type-checked, priced and evaluated.

`environment` is the way in: it compiles text to a `Program`. The grammar is cel-cpp's, through `cel-expr-python`, which
`syntax` imports when the first expression is compiled; types, functions, costs and evaluation are ours, because
Kubernetes' types, its functions and its limits are. https://cel.dev, https://kubernetes.io/docs/reference/using-api/cel/.
"""
