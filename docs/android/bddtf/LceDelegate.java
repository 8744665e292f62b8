package bddtf;

import org.tensorflow.lite.Delegate;

/**
 * The delegate that runs binary networks on LiteRT; libbdd_lce.so must be among the app's native libraries.
 *
 * <p>Close it after the interpreter that uses it.
 */
public final class LceDelegate implements Delegate {
  static {
    System.loadLibrary("bdd_lce");
  }

  private long handle;

  /** @param threads threads that binary operators may use, 1 to 64 */
  public LceDelegate(int threads) {
    handle = create(threads);
    if (handle == 0) {
      throw new IllegalArgumentException("threads is " + threads + "; it must lie between 1 and 64");
    }
  }

  @Override
  public long getNativeHandle() {
    return handle;
  }

  @Override
  public synchronized void close() {
    if (handle != 0) {
      destroy(handle);
      handle = 0;
    }
  }

  private static native long create(int threads);

  private static native void destroy(long handle);
}
