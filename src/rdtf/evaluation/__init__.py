"""How good a model is: scores on hidden frames, baselines beside them, and one page to look at.

`tasks`               which frames are given
`metrics`             the scores of one clip
`baselines`           what costs nothing and has to be beaten
`evaluate`            model, its untrained twin and the baselines over a set of clips; copies
`results`             what that found: numbers with intervals, tables
`sets`                how far a set of clips is from the true one
`perceptual`          LPIPS, FVD and KVD, where their published weights are
`charts`, `report`    what people look at
"""
