"""The networks: plain modules with plain arguments, one file a family.

Every generator is called as `generator(low, z, label) -> high` and every discriminator as
`discriminator(high, low, label) -> logits`. At the coarsest level `low` is None and `high` is the
image itself; without classes `label` is None.
"""
