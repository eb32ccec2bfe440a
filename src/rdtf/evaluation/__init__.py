"""How good a model is: scores on hidden frames, baselines beside them, and one page to look at.

`tasks`                   which frames are given
`metrics`, `lines`        the scores of one clip
`baselines`, `optical_flow` what costs nothing and has to be beaten
`untrained`               what the same network does before it has learned anything
`evaluate`, `results`     model and baselines over a set of clips, summed up
`memorisation`            whether generated clips are copies of training clips
`examples`, `tables`, `charts`, `report`   what people look at
"""
