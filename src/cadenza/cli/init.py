def init() -> None:
    pass
