package bddtf;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/**
 * A detector of AI-made images that needs libbdd_lce.so alone, no LiteRT.
 *
 * <p>Images may have any size: the rule in the model's file, one resized image or native crops, is applied inside. All
 * buffers must be direct.
 */
public final class Detector implements AutoCloseable {
  static {
    System.loadLibrary("bdd_lce");
  }

  /** Layouts of pixels, as in bdd.h. */
  public static final int RGB = 0, RGBA = 1, BGR = 2, BGRA = 3, GREY = 4, NV12 = 5, NV21 = 6, YUV420 = 7;

  /** What the score of an image says. */
  public static final class Verdict {
    /** That the image is FAKE, in [0, 1]. */
    public final double probability;

    /** Of the model's file. */
    public final double threshold;

    /** "REAL" or "FAKE"; "UNSURE" only if the model's file has a band of scores that are not decided. */
    public final String label;

    /** Whether the label is "FAKE". */
    public final boolean fake;

    /** Number of parts of the image that were scored. */
    public final int crops;

    /** 0, or why the score is to be distrusted: enum bdd_deviation in bdd.h. */
    public final int deviation;

    private Verdict(ByteBuffer call) {
      probability = call.getDouble(VERDICT);
      threshold = call.getDouble(VERDICT + 8);
      fake = call.getInt(VERDICT + 16) != 0;
      label = LABELS[call.getInt(VERDICT + 32)];
      crops = call.getInt(VERDICT + 20);
      deviation = call.getInt(VERDICT + 28);
    }
  }

  // Places in the buffer that the native functions share with this class (src/delegate/jni.cc).
  private static final int VERDICT = 32;
  private static final int MESSAGE = 72;
  private static final int MESSAGE_SIZE = 256;

  /** Names of enum bdd_label. */
  private static final String[] LABELS = {"REAL", "FAKE", "UNSURE"};

  private final ByteBuffer call =
      ByteBuffer.allocateDirect(MESSAGE + MESSAGE_SIZE).order(ByteOrder.nativeOrder());
  private long handle;

  /**
   * Reads a model.
   *
   * @param model a .tflite file in a direct buffer, e.g. mapped from the app's assets; it is copied
   * @param threads 1 to 64
   * @throws IllegalArgumentException if it is no model that the library runs, with the reason
   */
  public Detector(ByteBuffer model, int threads) {
    handle = open(direct(model), threads, call);
    if (handle == 0) {
      throw new IllegalArgumentException(message());
    }
  }

  /**
   * Scores an image of one plane, such as RGBA from Bitmap.copyPixelsToBuffer.
   *
   * @param pixels from the buffer's beginning
   * @param format RGB to GREY
   * @param width in pixels
   * @param height in pixels
   * @param stride bytes from one row to the next; 0 if there are no gaps
   * @return the verdict
   * @throws IllegalArgumentException for an impossible image, with the reason
   */
  public Verdict score(ByteBuffer pixels, int format, int width, int height, int stride) {
    return run(new ByteBuffer[] {pixels, null, null}, new int[] {format, width, height, stride, 0, 0, 0});
  }

  /**
   * Scores a camera image of three planes (android.media.Image, YUV_420_888).
   *
   * @param planes Y, U and V
   * @param width in pixels
   * @param height in pixels
   * @param strides getRowStride() of the planes
   * @param chromaStep getPixelStride() of U and V, 1 or 2
   * @return the verdict
   * @throws IllegalArgumentException for an impossible image, with the reason
   */
  public Verdict scoreYuv(ByteBuffer[] planes, int width, int height, int[] strides, int chromaStep) {
    return run(planes, new int[] {YUV420, width, height, strides[0], strides[1], strides[2], chromaStep});
  }

  @Override
  public synchronized void close() {
    if (handle != 0) {
      close(handle);
      handle = 0;
    }
  }

  private synchronized Verdict run(ByteBuffer[] planes, int[] description) {
    if (handle == 0) {
      throw new IllegalStateException("this detector is closed");
    }
    for (int i = 0; i < description.length; i++) {
      call.putInt(4 * i, description[i]);
    }
    for (ByteBuffer plane : planes) {
      if (plane != null) {
        direct(plane);
      }
    }
    if (score(handle, call, planes[0], planes[1], planes[2]) != 0) {
      throw new IllegalArgumentException(message());
    }
    return new Verdict(call);
  }

  private static ByteBuffer direct(ByteBuffer buffer) {
    if (!buffer.isDirect()) {
      throw new IllegalArgumentException("a direct ByteBuffer is needed: ByteBuffer.allocateDirect, or a mapped file");
    }
    return buffer;
  }

  private String message() {
    byte[] text = new byte[MESSAGE_SIZE];
    int length = 0;
    while (length < MESSAGE_SIZE && call.get(MESSAGE + length) != 0) {
      text[length] = call.get(MESSAGE + length);
      length++;
    }
    return new String(text, 0, length, StandardCharsets.UTF_8);
  }

  private static native long open(ByteBuffer model, int threads, ByteBuffer call);

  private static native int score(long handle, ByteBuffer call, ByteBuffer first, ByteBuffer second, ByteBuffer third);

  private static native void close(long handle);
}
