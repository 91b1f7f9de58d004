from visionserve.streaming.command import stream

if __name__ == "__main__":
    stream(prog_name="stream")
