from visionserve.streaming.failure import root_cause


def test_the_reason_of_a_single_java_exception_is_told() -> None:
    trace = (
        "An error occurred while calling o12.f.\n: java.lang.IllegalArgumentException: Too short\n\tat a.B.c(D.java:1)"
    )
    assert root_cause(trace) == "IllegalArgumentException: Too short."
