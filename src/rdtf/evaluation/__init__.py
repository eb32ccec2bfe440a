"""How good a model is: scores on hidden frames, naive rows beside them, and one page to look at.

`tasks`                   which frames are given
`metrics`, `lines`        the scores of one clip
`naive`, `optical_flow`   what costs nothing and has to be beaten
`untrained`               what the same network does before it has learned anything
`evaluate`, `results`     model and naive rows over a set of clips, summed up
`memorisation`            whether generated clips are copies of training clips
`examples`, `tables`, `charts`, `report`   what people look at
"""
