"""`rdtf compare`: where does the DFGN from scratch overtake adapters of a larger U-Net?

The claim of the RDTF paper (Tables 1 to 4): with limited means, a compact model trained from
scratch with dual mask and curriculum beats parameter-efficient tuning of a larger pre-trained one.
One budget cannot answer: adapters start ahead and saturate, a network from scratch starts behind
and keeps learning. So quality is measured over training FLOPs, for bases of several qualities.

`clips`                   target and source stickers, batches of one length, held-out clips
`methods`, `networks`     what is compared and may be spent, the paper's ablation, FLOPs
`fit`                     a run: constant rate, decays branched off
`experiment`              all runs, one after the other, resumable
`scoring`                 scores of held-out clips; whether the metrics order known corruptions
`curve`, `page`           differences, crossovers, intervals; the page
"""
