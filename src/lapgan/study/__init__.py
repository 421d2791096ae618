"""The human study of Denton et al. (2015): real or fake, in the browser.

design -> stimuli -> store -> app, and rows -> analysis -> report. Nothing here imports torch.
"""
