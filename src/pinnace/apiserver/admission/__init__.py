"""Admission: what may change or refuse a request after it is authorized and before it is stored.

https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/
"""
