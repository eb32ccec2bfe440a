"""`rdtf compare`: the DFGN from scratch against adapters of a larger pre-trained U-Net.

The claim of the RDTF paper (Tables 1 to 4): with the same data and means, a compact model trained
from scratch with dual mask and curriculum beats parameter-efficient tuning of a larger pre-trained
one. Here that is measured: same target clips, same training FLOPs, and the same wall-clock as a
second column. What scores well before any training proves nothing about training, so every table
has an untrained row, and the frame composer, which is not the paper's, is in an appendix.

`settings`              the budgets
`domains`               target and source stickers, which share no kind and no style
`methods`, `networks`   what is compared, and how each is built
`variants`              the ablation of the paper's Tables 3 and 4
`flops`, `batches`      what a step costs, and clips of one length
`fit`, `pretrain`       one lean training loop for all of them
`clips`, `scoring`      held-out clips, sampling, scores
`compare`               the jobs, one after the other, resumable
`results`, `tables`, `report`   what comes out
"""
