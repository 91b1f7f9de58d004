import click


class BatchSizes(click.ParamType):
    """Different whole numbers from 1, as in 1,4,8 -> in rising order."""

    name = "N,N,..."

    def convert(self, value: str | list[int], param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if not isinstance(value, str):
            return value
        sizes = [int(part) if part.strip().isdecimal() else 0 for part in value.split(",")]
        if min(sizes) < 1 or len(set(sizes)) < len(sizes):
            self.fail(f"{value!r} is not a list of different whole numbers from 1, as in 1,4,8", param, ctx)
        return sorted(sizes)
