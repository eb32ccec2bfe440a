"""`rdtf compare`: the DFGN from scratch against adapters of a larger pre-trained U-Net.

The claim of the RDTF paper (Tables 1 to 4): with the same data and means, a compact model trained
from scratch with dual mask and curriculum beats parameter-efficient tuning of a larger pre-trained
one. Here that is measured: same target clips, same training FLOPs, and the same wall-clock as a
second column. What scores well before any training proves nothing about training, so every table
has an untrained row, and the warp decoder, which is not the paper's, is in an appendix.

`settings`                what a comparison may spend
`clips`                   target and source stickers, batches of one length, held-out clips
`methods`, `networks`     what is compared, the paper's ablation, the networks and their FLOPs
`fit`, `experiment`       a run; all runs, one after the other
`scoring`, `results`      scores of held-out clips; means, medians, differences with intervals
`findings`, `report`      tables; the page
`compare`                 all of it, resumable
"""
