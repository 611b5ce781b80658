// Runs in the audio thread: hands the samples of the microphone to the page, without compression.
class Capture extends AudioWorkletProcessor {
  process([input]) {
    if (input.length) this.port.postMessage(input[0].slice());
    return true;
  }
}
registerProcessor("capture", Capture);
