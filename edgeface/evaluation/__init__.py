"""How well does a model tell people apart?"""
