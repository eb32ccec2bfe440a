"""From sticker files to what training reads.

`prepare.prepare` makes a training set, `dataset.PreparedDataset` opens it, `inspect` looks at it;
`caches` keeps frames, latents and text states that would be computed again in every epoch.

Nothing is imported here: worker processes and the command line load only what they use.
"""
