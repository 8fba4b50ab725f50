/**
 * Where pictures come from: a camera, a video file, a picture file, a demo scene.
 *
 * Each opened source is a `Source`: `frames(signal, pace)` yields what can be sent, until it ends or is aborted, and
 * `drawable(yielded)` is what can be drawn of it, also after newer pictures have come. Whoever opened a source closes
 * it; until then it can be streamed any number of times, one stream after the other. Nothing here knows the page: a
 * source speaks through what it yields, and a camera tells the callback it was given that it was unplugged.
 *
 * @typedef {object} Pace
 * @property {() => number} rate Pictures per second; asked for each picture.
 * @property {boolean} everyFrame Whether a video waits at each picture until it is taken, instead of playing on.
 * @typedef {object} Source
 * @property {string} name
 * @property {boolean} still Whether there is one picture only.
 * @property {(signal: AbortSignal, pace: Pace) => AsyncGenerator<Blob | OffscreenCanvas>} frames
 * @property {(yielded?: Blob | OffscreenCanvas) => ImageBitmap | OffscreenCanvas} drawable
 * @property {() => void} again Have a picture yielded once more; where new ones come anyway it does nothing.
 * @property {() => void} close
 */

const LONGEST_SIDE = 1280; // of camera and video frames; a chosen picture is sent as it is

const CAMERA_REMEDIES = {
  InsecureError: [
    "The camera needs a secure page",
    "Browsers give the camera to https pages and to localhost only. Open this page as http://localhost:PORT; if the "
      + "server is on another machine, first run: ssh -L PORT:localhost:PORT that-machine",
  ],
  NotAllowedError: [
    "The camera was refused",
    "Allow the camera for this page (the camera sign beside the address), then press Camera again.",
  ],
  NotFoundError: [
    "No camera found",
    "Plug one in, then press Camera again. A picture, a video or the demo scene work without.",
  ],
  NotReadableError: ["The camera is in use", "Another program holds it. Close that program, then press Camera again."],
};

/** @returns {[string, string]} What is wrong with the camera, and what helps. */
export function cameraRemedy(error) {
  return CAMERA_REMEDIES[error.name] ?? ["The camera does not start", `${error.name}: ${error.message}`];
}

/** @returns {Promise<Source>} Rejected if the browser cannot show the file. */
export function openFile(file) {
  return file.type.startsWith("video/") ? Video.of(file) : Still.of(file);
}

function pause(ms, signal) {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, Math.max(0, ms));
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

function videoElement(properties) {
  return Object.assign(document.createElement("video"), { muted: true, playsInline: true }, properties);
}

/** What a video shows now. */
function grab(video) {
  const { videoWidth: width, videoHeight: height } = video;
  const shrink = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  const copy = new OffscreenCanvas(Math.round(width * shrink), Math.round(height * shrink));
  copy.getContext("2d").drawImage(video, 0, 0, copy.width, copy.height);
  return copy;
}

/** Yields what `take()` returns, `rate()` times a second, until it is null. */
async function* paced(take, signal, rate) {
  while (!signal.aborted) {
    const started = performance.now();
    const picture = take();
    if (picture === null) return;
    yield picture;
    await pause(1000 / rate() - (performance.now() - started), signal);
  }
}

/** @implements {Source} A picture file. */
class Still {
  static async of(file) {
    return Object.assign(new Still(), { file, name: file.name || "picture", bitmap: await createImageBitmap(file) });
  }

  #changed = Promise.withResolvers();
  still = true;
  drawable = () => this.bitmap;
  again = () => this.#changed.resolve();
  close = () => this.bitmap.close();

  /** The picture, and again whenever it is asked for. */
  async *frames(signal) {
    signal.addEventListener("abort", this.again, { once: true });
    while (!signal.aborted) {
      this.#changed = Promise.withResolvers();
      yield this.file;
      await this.#changed.promise;
    }
  }
}

/** @implements {Source} A video file, without its sound. */
class Video {
  static async of(file) {
    const video = videoElement({ src: URL.createObjectURL(file), preload: "auto" });
    await new Promise((resolve, reject) => {
      video.onloadeddata = resolve;
      video.onerror = () => reject(new Error(video.error?.message || "the format is unknown"));
    });
    return Object.assign(new Video(), { video, name: file.name || "video" });
  }

  still = false;
  drawable = (picture) => picture;
  again() {}

  close() {
    this.video.pause();
    URL.revokeObjectURL(this.video.src);
  }

  async *frames(signal, { rate, everyFrame }) {
    const { video } = this;
    if (video.ended || video.currentTime >= video.duration) video.currentTime = 0;
    const take = () => (video.ended ? null : grab(video));
    if (everyFrame) yield* this.#steps(take, signal, rate);
    else {
      await video.play();
      yield* paced(take, signal, rate);
      video.pause();
    }
  }

  /** Nothing is skipped: the video waits at each picture until there is room for it. */
  async *#steps(take, signal, rate) {
    const { video } = this;
    video.pause();
    while (!signal.aborted && !video.ended) {
      yield take();
      const next = video.currentTime + 1 / rate();
      if (next >= video.duration) return;
      await new Promise((resolve) => {
        video.onseeked = resolve;
        video.currentTime = next;
      });
    }
  }
}

/** @implements {Source} */
export class Camera {
  /**
   * @param {(error: DOMException) => void} unplugged Called when the camera is gone.
   * @throws {DOMException} Why there is no camera; `cameraRemedy` explains it.
   */
  static async start(unplugged) {
    if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("insecure page", "InsecureError");
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
    const video = videoElement({ srcObject: stream });
    await video.play();
    const camera = Object.assign(new Camera(), { video, stream, name: stream.getVideoTracks()[0].label || "camera" });
    stream.getVideoTracks()[0].onended = () => unplugged(new DOMException("unplugged", "NotFoundError"));
    return camera;
  }

  still = false;
  drawable = (picture) => picture;
  again() {}
  close = () => this.stream.getTracks().forEach((track) => track.stop());
  frames = (signal, { rate }) => paced(() => grab(this.video), signal, rate);
}

/** @implements {Source} Something to look at where there is no camera: a disc that moves and a line of text. */
export class Demo {
  name = "demo scene";
  still = false;
  drawable = (picture) => picture;
  again() {}
  close = () => {};
  frames = (signal, { rate }) => paced(() => this.#scene(performance.now() / 1000), signal, rate);

  #scene(seconds) {
    const scene = new OffscreenCanvas(640, 400);
    const context = scene.getContext("2d");
    const sky = context.createLinearGradient(0, 0, 0, 400);
    sky.addColorStop(0, "#dbe7f3");
    sky.addColorStop(1, "#f7f3ea");
    context.fillStyle = sky;
    context.fillRect(0, 0, 640, 400);
    context.fillStyle = "#16212e";
    context.font = "600 34px Georgia, 'DejaVu Serif', serif";
    context.fillText("Every frame has an answer", 96, 80);
    context.fillStyle = "#e2693b";
    context.beginPath();
    context.arc(320 + 220 * Math.sin(seconds), 250 + 60 * Math.cos(2 * seconds), 44, 0, 2 * Math.PI);
    context.fill();
    return scene;
  }
}
