"""A judge that ends after its first answer."""

import socket
import sys

from pipeline_project.orchestration import judge

if __name__ == "__main__":
    vars(judge)["ANSWERS_MAX"] = 1
    judge.main(socket.socket(fileno=int(sys.argv[1])))
