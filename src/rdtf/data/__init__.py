"""From sticker files to what training reads.

`prepare.prepare` makes a training set, `dataset.PreparedDataset` opens it, `inspect` looks at it;
`pixelcache`, `latentcache` and `textcache` keep what would be computed again in every epoch.
`synthetic.SyntheticStickers` draws stickers where there are none.

Nothing is imported here: worker processes and the command line load only what they use.
"""
